/// <reference types="node" />
import { EventEmitter } from 'node:events';
import type { Server } from 'node:http';

/**
 * What went wrong. The message says what and why, and after "Next:" what to do about it.
 * Errors that Node itself makes (of a listening server, of an abort) are of their usual classes.
 */
export class BeamError extends Error {
  constructor(code: string, what: string, hint?: string, cause?: unknown);
  /** Stable, such as "BEAM-1014": codes never change their meaning. */
  readonly code: string;
  /** What happened, and why. */
  readonly what: string;
  /** What to do next. */
  readonly hint: string;
}

/**
 * - `connecting`: on the way to the relay for the first time
 * - `active`: the name answers
 * - `reconnecting`: the link is lost; Beam tries again by itself, and the name is kept
 * - `closed`: over
 */
export type TunnelState = 'connecting' | 'active' | 'reconnecting' | 'closed';

/**
 * - `http`: visitors speak HTTP to the relay, the local service HTTP/1.1
 * - `tcp`, `udp`: a public port of the relay, bytes or datagrams as they are
 * - `tls`: by server name, never decrypted at the relay: the local service has the certificate
 * - `private`: bytes, for an `entry` with the same device key and nobody else
 * - `entry`: the near end of the private tunnel `name`: listens on `port` here
 */
export type TunnelKind = 'http' | 'tcp' | 'tls' | 'udp' | 'private' | 'entry';

/** Who may visit a tunnel, and what is done to what passes. Everything but `allow` and `deny` is for `http` tunnels. */
export interface Policy {
  /** "USER:PASSWORD", at most 64. Others get 401. */
  auth?: string | string[] | undefined;
  /** Addresses and ranges ("203.0.113.9", "10.0.0.0/8"), at most 256; `deny` beats `allow`. Others get 403. */
  allow?: string | string[] | undefined;
  deny?: string | string[] | undefined;
  /** "10/s", "100/m" or "1000/h", for each visitor's address. More get 429. */
  rateLimit?: string | undefined;
  /** As rateLimit, of all visitors together; what another rule refuses does not count. More get 429. */
  rateLimitTotal?: string | undefined;
  /** Bytes of a request's body at most. More get 413. */
  maxBody?: number | undefined;
  /** "Name: value" sets a field, "Name:" takes it out; at most 16. */
  requestHeaders?: string | string[] | undefined;
  responseHeaders?: string | string[] | undefined;
  /** Origins whose pages may read this tunnel, at most 32; or "*". */
  cors?: string | string[] | undefined;
  /** Responses go as the local service sent them; else text is compressed if the visitor takes it. */
  noCompression?: boolean | undefined;
  /** Bytes of memory for a shared cache (RFC 9111), 1 MiB to 4 GiB. Default: none. */
  cache?: number | undefined;
}

/** What the cache of a tunnel did since it was opened, and what is in it now. */
export interface CacheInfo {
  hits: number;
  /** Of the hits: answered while the service was asked. */
  stale: number;
  misses: number;
  bypassed: number;
  revalidated: number;
  evicted: number;
  bytes: number;
  responses: number;
}

/** The local service is `port` (with `host`), `upstream`, or a `folder`. */
export interface TunnelOptions {
  /** The local service's port, 1 to 65535 (`kind: "entry"`: the port to listen on). */
  port?: number | undefined;
  /** The local service as an address: "http://HOST[:PORT]", "https://HOST[:PORT]", "unix:/PATH". */
  upstream?: string | undefined;
  /** https: a PEM file with the CA of the service's certificate. Default: the system's CAs. */
  upstreamCa?: string | undefined;
  /** https: whoever answers is the local service. */
  upstreamInsecure?: boolean | undefined;
  /** Default: "auto". */
  upstreamProtocol?: 'auto' | 'http1' | 'h2c' | 'https' | undefined;
  /** A directory whose files are shared instead of a local service. */
  folder?: string | undefined;
  /** `folder`: a file in it that answers where there is none, for apps with routes of their own. */
  fallback?: string | undefined;
  /** Who may visit, and more. Default: everybody. */
  policy?: Policy | undefined;
  /** Where the local service is. Default: "localhost", both address families. */
  host?: string | undefined;
  /** Default: "http". */
  kind?: TunnelKind | undefined;
  /** The wanted name ("shop"). Default: the relay draws one, the same again next time. */
  name?: string | undefined;
  /**
   * "HOST[:PORT]" (443 when absent), "wss://HOST"; several with commas between. Default: BEAM_RELAY of the environment, and without that a relay inside
   * this process, for this machine alone.
   */
  relay?: string | undefined;
  /** A PEM file, or "sha256:HEX", of the relay's CA. Default: BEAM_RELAY_CA, else the first relay met is remembered. */
  relayCa?: string | undefined;
  /** What the relay's owner gave you. Default: BEAM_TOKEN. */
  token?: string | undefined;
  /** Where the device key and known relays are kept. Default: BEAM_DATA_DIR, else XDG_DATA_HOME/beam, else ~/.local/share/beam. */
  dataDir?: string | undefined;
  /** The Host that the local service sees: "rewrite" (default; its own address), "keep", or a value of yours. */
  hostHeader?: string | undefined;
  /** End another live session of yours that holds the name. */
  takeover?: boolean | undefined;
  /** A note for the relay's record, such as "next". */
  framework?: string | undefined;
  /** `tcp`, `udp`: the wanted public port. Default: any, the same again next time. */
  remotePort?: number | undefined;
  /** `tcp`, `tls`: the local service gets the visitor's address in a PROXY protocol header of that version. Default: 0, none. */
  proxyProtocol?: 0 | 1 | 2 | undefined;
  /** Default: "auto", the best that gets through. */
  transport?: 'auto' | 'quic' | 'h2' | 'ws' | undefined;
  /** "http://[USER:PASSWORD@]HOST[:PORT]", "socks5://..." or "none". Default: HTTPS_PROXY, ALL_PROXY and NO_PROXY of the environment. */
  proxy?: string | undefined;
  /** Of what this side sends over QUIC. Default: "bbr". */
  congestion?: 'bbr' | 'cubic' | undefined;
  /** Connections to each relay at most, 1 to 8. Default: as the transport needs. */
  links?: number | undefined;
  /** Aborts the opening, and later closes the tunnel. */
  signal?: AbortSignal | undefined;
}

export interface TunnelInfo {
  state: TunnelState;
  kind: TunnelKind;
  /** The full public name. These are null while unknown. */
  name: string | null;
  url: string | null;
  plainUrl: string | null;
  /** The owner's page. */
  dashboard: string | null;
  /** "HOST:PORT" as dialled. */
  relay: string | null;
  /** Fingerprint of the relay's CA. */
  relayId: string | null;
  transport: 'quic' | 'h2' | 'ws' | null;
  /** Why not a better one; null: it is the best. */
  transportReason: string | null;
  /** Milliseconds over this transport, and in this state. */
  transportMs: number;
  sinceMs: number;
  /** Answered so far. */
  requests: number;
  /** Bytes of bodies towards the local service, and back. */
  bytesIn: number;
  bytesOut: number;
  reconnects: number;
  /** `tcp`, `udp`; else 0. */
  publicPort: number;
}

/** One link of a tunnel, or a relay at which it has none just now. */
export interface LinkInfo {
  relay: string | null;
  relayId: string | null;
  url: string | null;
  state: TunnelState;
  transport: 'quic' | 'h2' | 'ws' | null;
  transportReason: string | null;
  /** Milliseconds this link is up; without one, in this state. */
  sinceMs: number;
  /** Requests and connections on it now. */
  streams: number;
  /** It is let go once they have ended. */
  draining: boolean;
  /** What is wrong at this relay. */
  why: string | null;
}

/** One finished request (or connection, of tunnels that are not `http`). */
export interface TunnelRequest {
  method: string | null;
  /** Without the query. */
  path: string | null;
  host: string | null;
  /** 0: none was sent. */
  status: number;
  /** Milliseconds: all of it, and until the first byte of the response. */
  ms: number;
  ttfbMs: number;
  bytesIn: number;
  bytesOut: number;
  /** "BEAM-5021" and the like when Beam answered by itself or aborted. */
  error: string | null;
}

export interface TunnelEvents {
  request: [request: TunnelRequest];
  /** `error`: why it is not active. */
  state: [state: TunnelState, info: TunnelInfo, error: BeamError | null];
  /** The last event; `error` is null when close() or a signal ended it. */
  closed: [error: BeamError | null];
}

interface Listening<Events extends Record<keyof Events, any[]>> extends EventEmitter {
  on<K extends keyof Events & string>(event: K, listener: (...args: Events[K]) => void): this;
  once<K extends keyof Events & string>(event: K, listener: (...args: Events[K]) => void): this;
  off<K extends keyof Events & string>(event: K, listener: (...args: Events[K]) => void): this;
  addListener<K extends keyof Events & string>(event: K, listener: (...args: Events[K]) => void): this;
  removeListener<K extends keyof Events & string>(event: K, listener: (...args: Events[K]) => void): this;
}

/**
 * An open tunnel. It keeps the process alive until it is closed, unless unref() says otherwise. An exception in a listener is an uncaught
 * exception, as with every emitter.
 */
export interface Tunnel extends Listening<TunnelEvents>, AsyncIterable<TunnelRequest>, AsyncDisposable {
  /** "https://swift-beam-123.example.com", with the port when it is not 443. */
  readonly url: string;
  /** The name on plain http, when it answers there. */
  readonly plainUrl: string | null;
  readonly name: string;
  readonly state: TunnelState;
  readonly transport: 'quic' | 'h2' | 'ws' | null;
  /** `tcp`, `udp`. */
  readonly publicPort: number | null;
  readonly closed: boolean;
  /** Requests that no listener and no iterator heard of: more than 10,000 waited for JavaScript, or 1,000 for an iterator. */
  readonly lostRequests: number;
  /** All that is known now. Rejects with BEAM-1005 when the tunnel is closed. */
  info(): Promise<TunnelInfo>;
  /** Its links, newest first of each relay. Rejects with BEAM-1005 when the tunnel is closed. */
  links(): Promise<LinkInfo[]>;
  /** Finished requests as they come, until the tunnel is closed; throws once when it was closed by an error. */
  requests(): AsyncIterableIterator<TunnelRequest>;
  /** Rejects with BEAM-1016 when the tunnel has no cache (`policy.cache`). */
  cacheInfo(): Promise<CacheInfo>;
  /** Forget what the cache keeps of this path and what is under it; without one, everything. BEAM-1016: no cache. */
  purge(path?: string): Promise<void>;
  /** Give the name up; requests in flight are aborted. May be called again. */
  close(): Promise<void>;
  ref(): this;
  /** The process may end while the tunnel is open. */
  unref(): this;
  hasRef(): boolean;
}

/**
 * Put a local port on a public name; resolves once the name answers. As long as the relay cannot be reached it tries again: give a `signal` to limit that.
 *
 * Rejects with a BeamError: BEAM-1003 (an option is wrong: it says which), BEAM-1015 (the name is not permitted), BEAM-1014 (the name is somebody
 * else's), BEAM-1012 (the relay is not the one that was trusted), BEAM-1013 (it wants a token), BEAM-1019 or BEAM-1020 (`dataDir`); or with an
 * AbortError whose `cause` is the last reason why there was no connection.
 */
export function open(options: TunnelOptions): Promise<Tunnel>;

/**
 * Put a server of node:http on a public name. A server that does not listen yet is made to, on a free port of 127.0.0.1. The tunnel closes with the server;
 * the server stays when the tunnel is closed. Rejects as open() does; BEAM-1023 for a server of node:https.
 */
export function listen(server: Server, options?: Omit<TunnelOptions, 'port' | 'upstream' | 'folder' | 'fallback'>): Promise<Tunnel>;

export interface RelayOptions {
  /**
   * Tunnels are LABEL.domain. Default: the relay of this machine alone ("localhost", 127.0.0.1 and ::1, ports 8443 and 8080 or the next free ones), whose
   * other defaults are then different from those below.
   */
  domain?: string | undefined;
  /** Host of the relay's own pages. Default: none. */
  controlHost?: string | undefined;
  /** TLS (TCP and UDP): "ADDR:PORT[,ADDR:PORT...]"; port 0: any free one. Default: "127.0.0.1:8443". */
  listen?: string | undefined;
  /** Plain http, likewise. Default: none. */
  listenPlain?: string | undefined;
  /** What plain http does. Default: "redirect". */
  plain?: 'redirect' | 'serve' | undefined;
  /** Keys, names, audit. Default: "relay" below that of TunnelOptions.dataDir. */
  dataDir?: string | undefined;
  /** Threads. Default: one per processor. */
  workers?: number | undefined;
  /** PEM files: a certificate chain for *.domain, and its key; both or none. Default: certificates of the relay's own CA. */
  tlsCert?: string | undefined;
  tlsKey?: string | undefined;
  /** One token a line; agents must show one. */
  agentTokenFile?: string | undefined;
  /** Agents need no token, also beyond loopback. */
  open?: boolean | undefined;
  /** A port that is taken: the next free one. */
  portFallback?: boolean | undefined;
  /** Hand fresh visitors to the worker that has the link. Default: true. */
  giveDescriptors?: boolean | undefined;
  /** "20000-20999": public ports for TCP tunnels. Default: no TCP tunnels. */
  tcpPorts?: string | undefined;
  /** The same for UDP. Default: tcpPorts; "none": no UDP tunnels. */
  udpPorts?: string | undefined;
  /** Milliseconds after which a silent UDP visitor is forgotten. Default: 120000. */
  udpIdleMs?: number | undefined;
  /** 1: another process with the same dataDir may take the sockets over; 2: the same, and take them over from the one that runs. Default: 0. */
  handover?: 0 | 1 | 2 | undefined;
  /** Of what this side sends over QUIC. Default: "bbr". */
  congestion?: 'bbr' | 'cubic' | undefined;
  /** "HOST[:PORT]" of another relay with the same CA, to which drain() sends the agents. */
  drainTo?: string | undefined;
  /** What strangers may have at once, of one address and to one tunnel. Defaults: 512, 2048, 4096, 4096. */
  visitorConnections?: number | undefined;
  visitorRequests?: number | undefined;
  tunnelConnections?: number | undefined;
  tunnelRequests?: number | undefined;
  /** Bytes a second a request's body must bring until its answer begins. Default: 240. */
  minBodyRate?: number | undefined;
  /** Browsers that come to a tunnel by themselves first see a warning, once in seven days; only without `agentTokenFile`. */
  interstitial?: boolean | undefined;
  /** Load balancers in front, whose PROXY protocol header is taken: "10.0.0.0/8,2001:db8::5". */
  proxyFrom?: string | undefined;
}

export interface RelayInfo {
  domain: string;
  /** "127.0.0.1:8443": the first TLS listener with its real port. */
  https: string;
  http: string | null;
  httpsPort: number;
  httpPort: number;
  /** PEM of the relay's own CA, and its fingerprint. */
  caFile: string;
  caFingerprint: string;
  workers: number;
  /** Now. */
  sessions: number;
  tunnels: number;
  visitors: number;
  /** Since the start. */
  requests: number;
}

export interface RelayEvent {
  kind: 'session_up' | 'session_down' | 'tunnel_up' | 'tunnel_down' | 'refused' | 'draining' | 'drained' | 'took_over' | 'alone' | (string & {});
  name: string | null;
  agent: string | null;
  reason: string | null;
}

/** A relay inside the process. It keeps the process alive until it is closed, unless unref() says otherwise. */
export interface Relay extends Listening<{ event: [event: RelayEvent]; closed: [error: null] }>, AsyncDisposable {
  readonly domain: string;
  readonly https: string;
  readonly http: string | null;
  readonly httpsPort: number;
  readonly httpPort: number;
  readonly caFile: string;
  readonly caFingerprint: string;
  readonly closed: boolean;
  /** Events that JavaScript was too busy to hear. */
  readonly lostEvents: number;
  /** These reject with BEAM-1005 when the relay is closed. */
  info(): Promise<RelayInfo>;
  /** The counters, in the Prometheus exposition format. */
  metrics(): Promise<string>;
  /** Go away without losing a request; live streams have `ms` milliseconds (default: 30000). Resolves when nothing is left: then close(). */
  drain(ms?: number): Promise<void>;
  /** Read tlsCert, tlsKey and agentTokenFile again. All of it, or an error: BEAM-1003, BEAM-1016, BEAM-1019. */
  reload(): Promise<void>;
  /** The same with other options than it was started with; BEAM-1023 for those that need another relay (domain, listen, dataDir, ...). */
  reconfigure(options: RelayOptions): Promise<void>;
  /** No new connections, links and visitors closed. Takes less than a second. */
  close(): Promise<void>;
  ref(): this;
  unref(): this;
  hasRef(): boolean;
}

/**
 * Start a relay; resolves once every listener is up. Rejects with a BeamError: BEAM-1003, BEAM-1018 (the port is in use), BEAM-1019, BEAM-1020, BEAM-1011
 * (certificate or key), BEAM-1013 (beyond loopback it wants `agentTokenFile` or `open`).
 */
export function relay(options?: RelayOptions): Promise<Relay>;

export interface DomainRow {
  /** The full name. */
  name: string;
  owner: string;
  /** By the generator; false: its owner wanted it. */
  drawn: boolean;
  /** The local port it was last used for. */
  port: number;
  /** Seconds since 1970. */
  createdAt: number;
  usedAt: number;
}

/** A relay's record of names. Errors of the record: BEAM-1020, BEAM-1019; after close(): BEAM-1005. */
export interface Domain extends AsyncDisposable {
  /**
   * A name for `principal` (the id of a device, as relays log it): the wanted one, or its name for this local port again, or a fresh one.
   * BEAM-1015: not permitted; BEAM-1014: somebody else's; BEAM-1017: it has as many as one may have.
   */
  allocate(wanted: { principal: string; name?: string | undefined; port?: number | undefined }): Promise<string>;
  /** Give a full name up. BEAM-1016: there is none; BEAM-1013: it is not the principal's. */
  release(owned: { principal: string; name: string }): Promise<void>;
  /** In alphabetical order, at most 1000. */
  list(principal?: string): Promise<DomainRow[]>;
  /** Walk the audit chain: the number of rows in order. BEAM-1020: one was changed, removed or put in between. */
  verify(): Promise<number>;
  close(): Promise<void>;
}

/** The names a relay hands out. */
export const domains: {
  /** A random label such as "swift-otter-123". */
  generate(): string;
  /** May this label be a tunnel's name? Throws BEAM-1015 with the reason. */
  check(label: string): void;
  /** A relay's record: its base domain and data directory. The relay may be running. */
  open(options: { base: string; dataDir: string }): Promise<Domain>;
};

/** Of libbeam. */
export const version: string;
/** Of this build, such as "quic". */
export const features: string[];
