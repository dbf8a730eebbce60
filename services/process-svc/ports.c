#include "services/process-svc/ports.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { STATE_LISTEN = 0x0a, LINE_MAX_BYTES = 512 };

/* ---- lines of /proc/net/tcp ---- */

static bool take_hex(const char **at, const char *end, int digits, uint32_t *ret)
{
    uint32_t v = 0;
    if (end - *at < digits)
        return false;
    for (int i = 0; i < digits; i++) {
        char c = (*at)[i];
        uint32_t d = c >= '0' && c <= '9'   ? (uint32_t)(c - '0')
                     : c >= 'A' && c <= 'F' ? (uint32_t)(c - 'A' + 10)
                                            : 16;
        if (d == 16)
            return false;
        v = v << 4 | d;
    }
    *at += digits;
    *ret = v;
    return true;
}

static void skip_blanks(const char **at, const char *end)
{
    while (*at < end && **at == ' ')
        ++*at;
}

static bool skip_words(const char **at, const char *end, int n)
{
    for (; n; n--) {
        skip_blanks(at, end);
        if (*at == end)
            return false;
        while (*at < end && **at != ' ')
            ++*at;
    }
    skip_blanks(at, end);
    return *at < end;
}

/* An address as the kernel prints it: each 32 bits of it as a number of this machine, 8 or 32 digits. */
static bool take_address(const char **at, const char *end, char ret[INET6_ADDRSTRLEN])
{
    const char *colon = memchr(*at, ':', (size_t)(end - *at));
    size_t digits = colon ? (size_t)(colon - *at) : 0;
    uint32_t words[4];
    if (digits != 8 && digits != 32)
        return false;
    for (size_t i = 0; i < digits / 8; i++)
        if (!take_hex(at, end, 8, &words[i]))
            return false;
    ++*at;
    return inet_ntop(digits == 8 ? AF_INET : AF_INET6, words, ret, INET6_ADDRSTRLEN) != NULL;
}

/* "  0: 0100007F:1F90 00000000:0000 0A tx:rx tr:when retransmits uid timeout inode ..." */
bool ports_parse_line(const char *line, size_t n, struct listener *ret)
{
    const char *at = line, *end = line + n;
    struct listener l = {0};
    uint32_t state;
    if (!skip_words(&at, end, 1) || !take_address(&at, end, l.address) || !take_hex(&at, end, 4, &l.port) ||
        !skip_words(&at, end, 1) || !take_hex(&at, end, 2, &state) || state != STATE_LISTEN ||
        !skip_words(&at, end, 5))
        return false;
    for (; at < end && *at >= '0' && *at <= '9'; at++) {
        if (l.inode > UINT64_MAX / 10 - 1)
            return false;
        l.inode = l.inode * 10 + (uint64_t)(*at - '0');
    }
    if (!l.inode || !l.port)
        return false;
    *ret = l;
    return true;
}

/* ---- listening sockets ---- */

static void add_listener(struct listeners *l, const struct listener *one)
{
    if ((l->n & (l->n - 1)) == 0)
        l->list = sa_realloc(l->list, (l->n ? 2 * l->n : 1) * sizeof *l->list);
    l->list[l->n++] = *one;
}

/* The kernel tells listening sockets first: the first other one ends it, so that the connections of a busy
 * machine cost nothing. */
static void read_table(struct listeners *l, const char *path)
{
    char line[LINE_MAX_BYTES];
    FILE *f = fopen(path, "re");
    if (!f)
        return;
    bool head = true;
    while (l->n < PORTS_LISTENERS_MAX && fgets(line, sizeof line, f)) {
        struct listener one;
        if (ports_parse_line(line, strcspn(line, "\n"), &one))
            add_listener(l, &one);
        else if (!head)
            break;
        head = false;
    }
    fclose(f);
}

static int by_inode(const void *a, const void *b)
{
    const struct listener *x = a, *y = b;
    return (x->inode > y->inode) - (x->inode < y->inode);
}

static void read_tables(struct listeners *l, const char *directory)
{
    static const char *const tables[] = {"tcp", "tcp6"};
    for (int i = 0; i < 2; i++) {
        char path[64];
        snprintf(path, sizeof path, "%s/net/%s", directory, tables[i]);
        read_table(l, path);
    }
}

static void sort(struct listeners *l)
{
    if (l->sorted != l->n)
        qsort(l->list, l->n, sizeof *l->list, by_inode);
    l->sorted = l->n;
}

/* Number of the network namespace; 0: not for us to see, or gone. */
static uint64_t namespace_of(const char *directory)
{
    char path[64];
    struct stat st;
    snprintf(path, sizeof path, "%s/ns/net", directory);
    return stat(path, &st) == 0 ? st.st_ino : 0;
}

static bool is_new_namespace(struct listeners *l, uint64_t number)
{
    for (size_t i = 0; i < l->n_namespaces; i++)
        if (l->namespaces[i] == number)
            return false;
    if (l->n_namespaces == PORTS_NAMESPACES_MAX)
        return false;
    l->namespaces = sa_realloc(l->namespaces, (l->n_namespaces + 1) * sizeof *l->namespaces);
    l->namespaces[l->n_namespaces++] = number;
    return true;
}

void listeners_read(struct listeners *ret, uint64_t *ret_sum)
{
    *ret = (struct listeners){0};
    is_new_namespace(ret, namespace_of("/proc/self"));
    read_tables(ret, "/proc/self");
    sort(ret);
    uint64_t sum = 14695981039346656037u;
    for (size_t i = 0; i < ret->n; i++)
        sum = (sum ^ ret->list[i].inode) * 1099511628211u;
    if (ret_sum)
        *ret_sum = sum;
}

void listeners_add(struct listeners *l, const struct proc_list *tree)
{
    for (size_t i = 0; i < tree->n; i++) {
        char directory[32];
        snprintf(directory, sizeof directory, "/proc/%d", tree->list[i]->pid);
        uint64_t number = namespace_of(directory);
        if (number && is_new_namespace(l, number))
            read_tables(l, directory);
    }
    sort(l);
}

void listeners_keep(struct listeners *l, uint32_t port)
{
    size_t kept = 0;
    for (size_t i = 0; i < l->n; i++)
        if (l->list[i].port == port)
            l->list[kept++] = l->list[i];
    l->n = l->sorted = kept;
}

void listeners_fini(struct listeners *l)
{
    free(l->list);
    free(l->namespaces);
    *l = (struct listeners){0};
}

/* ---- who holds them ---- */

static bool hold(struct port *list, size_t *n, const struct listener *l, int pid)
{
    for (size_t i = 0; i < *n; i++)
        if (list[i].listener->port == l->port && !strcmp(list[i].listener->address, l->address))
            return true;
    if (*n == PORTS_TREE_MAX)
        return false;
    list[(*n)++] = (struct port){l, pid};
    return true;
}

static bool add_ports(const struct listeners *l, int pid, struct port *list, size_t *n)
{
    char path[32], target[64];
    bool room = true;
    snprintf(path, sizeof path, "/proc/%d/fd", pid);
    DIR *d = opendir(path);
    if (!d)
        return room;
    size_t looked = 0;
    for (struct dirent *e; room && looked < PORTS_FILES_MAX && (e = readdir(d)); looked++) {
        struct listener key;
        ssize_t got = readlinkat(dirfd(d), e->d_name, target, sizeof target - 1);
        target[got > 0 ? got : 0] = 0;
        if (strncmp(target, "socket:[", 8) != 0)
            continue;
        key.inode = strtoull(target + 8, NULL, 10);
        const struct listener *found = bsearch(&key, l->list, l->n, sizeof *l->list, by_inode);
        if (found)
            room = hold(list, n, found, pid);
    }
    closedir(d);
    return room;
}

static int by_port(const void *a, const void *b)
{
    const struct port *x = a, *y = b;
    if (x->listener->port != y->listener->port)
        return x->listener->port < y->listener->port ? -1 : 1;
    return strcmp(x->listener->address, y->listener->address);
}

size_t ports_of_tree(const struct listeners *l, const struct proc_list *tree, struct port **ret)
{
    struct port *list = sa_calloc(PORTS_TREE_MAX, sizeof *list);
    size_t n = 0;
    for (size_t i = 0; i < tree->n && l->n; i++)
        if (!add_ports(l, tree->list[i]->pid, list, &n))
            break;
    qsort(list, n, sizeof *list, by_port);
    *ret = list;
    return n;
}

bool ports_tree_listens(int root, uint32_t port)
{
    cleanup_proc_table struct proc_table table = {0};
    struct listeners listeners;
    struct proc_list tree = {0};
    cleanup_free struct port *held = NULL;
    proc_table_read_tree(&table, root);
    struct proc *p = proc_table_find(&table, root, 0);
    if (!p)
        return false;
    proc_walk(&table, p, true, &tree);
    listeners_read(&listeners, NULL);
    listeners_add(&listeners, &tree);
    listeners_keep(&listeners, port);
    size_t n = ports_of_tree(&listeners, &tree, &held);
    proc_list_fini(&tree);
    listeners_fini(&listeners);
    return n > 0;
}
