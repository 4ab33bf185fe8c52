export * from './index.js';
import * as beam from './index.js';
export default beam;
