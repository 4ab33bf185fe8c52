import beam from './index.js';

export const { open, listen, relay, domains, version, features, BeamError, Tunnel, Relay, Domain } = beam;
export default beam;
