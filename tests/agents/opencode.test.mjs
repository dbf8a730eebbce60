import { testAgent } from './real_agent.mjs';

testAgent('opencode');
