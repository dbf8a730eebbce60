/* Fault points: named places between two steps whose order matters. In a normal build they are nothing. A
 * program built with SA_FAULTS and linked with //adapters/os:fault obeys the environment variable
 *
 *     SA_FAULT=<point>:<hit>     kill -9 of itself at that point, the hit-th time it comes there (from 1)
 *
 * A test reads the points from the sources (see fault_points in deploy/bazel/faults.bzl) and crashes at each
 * of them: a new point is tested without a new test. */
#ifndef ADAPTERS_OS_FAULT_H_
#define ADAPTERS_OS_FAULT_H_

#ifdef SA_FAULTS
#define SA_FAULT(point) sa_fault(point)
/* Thread safe. */
void sa_fault(const char *point);
#else
#define SA_FAULT(point) ((void)0)
#endif

#endif
