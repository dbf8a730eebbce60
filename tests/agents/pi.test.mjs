import { testAgent } from './real_agent.mjs';

// It never asks for permission.
testAgent('pi', { asks: false });
