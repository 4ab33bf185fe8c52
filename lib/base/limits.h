/* limits.h: every number that bounds what a stranger, a peer or a user can cause, with its reason. Nothing else defines a limit. */
#ifndef BASE_LIMITS_H
#define BASE_LIMITS_H

/* --- HTTP --- */
#define LIMIT_HEAD_BYTES                                                                                     \
  (64u * 1024) /* request or response head: nginx takes 32 KiB, Node 16 KiB; cookies need room */
#define LIMIT_HEAD_FIELDS 128u /* browsers send about 20; more is an attack on hash tables */
#define LIMIT_HEAD_ADDED_BYTES                                                                               \
  (8u *                                                                                                      \
   1024) /* what we add to a head on its way (Forwarded, X-Forwarded-*, edits): a full head must still pass */
#define LIMIT_HEAD_ADDED_FIELDS 32u /* the same, counted in fields */
#define LIMIT_HEAD_MS 10000u        /* a head arrives within one round trip; slow heads are slowloris */
#define LIMIT_KEEPALIVE_MS 75000u   /* idle visitor connection; above the 60 s of common load balancers */
#define LIMIT_CHUNK_LINE 256u       /* chunk size and extensions */
#define LIMIT_UPSTREAM_IDLE                                                                                  \
  1024u /* idle connections kept to one local service, for seconds: a burst of so many is answered without dialling anew */
#define LIMIT_UPSTREAM_IDLE_MS 4000u /* Node closes idle keep-alive connections after 5 s: stay below */
#define LIMIT_UPSTREAM_DIAL_MS 5000u /* a local service that does not accept in 5 s is hanging */
#define LIMIT_UPSTREAM_BURST                                                                                 \
  128u /* requests begun at one local service and not done: a thousand at once cost the agent a fifth more time each, and overflow a backlog */
#define LIMIT_UPSTREAM_BURST_MS                                                                              \
  5u /* such a request counts for so long: a service that is slower still gets 25,600 a second */
#define LIMIT_UPSTREAM_INFOS                                                                                 \
  32u /* informational responses before a final one: early hints come in twos and threes */
#define LIMIT_UPSTREAM_HEAD_MS 120000u /* first byte of the response: long polls and debuggers are slow */

#define LIMIT_BODY_RATE                                                                                      \
  240u /* bytes a second of a request's body before its answer begins: a phone at the edge of its net sends more */
#define LIMIT_BODY_MS                                                                                        \
  20000u /* ... on average since it last kept to that: a pause of so long is a slow body, not a bad minute */
#define LIMIT_STALL_MS                                                                                       \
  600000u /* a visitor that takes nothing of its response: a paused film goes on within ten minutes */
#define LIMIT_STALL_LOW_MS 10000u /* ... while memory is short */
#define LIMIT_SHED_MORE_MS                                                                                   \
  3000u /* less than half of the pool is left: each new request ends one response that stalled so long ... */
#define LIMIT_SHED_MS 1000u      /* ... less than a quarter: so long ... */
#define LIMIT_SHED_LEAST_MS 250u /* ... less than an eighth: so long, rather than refuse newcomers ... */
#define LIMIT_ROOM_MS 10u /* one that finds no room looks again so often, for LIMIT_LINK_WAIT_MS at most */
#define LIMIT_SHED 8u     /* ... and so many: more than one request can hold */
#define LIMIT_H2_STREAMS                                                                                     \
  100u /* requests at once on a connection: what RFC 9113 6.5.2 calls the least that does not hurt */
#define LIMIT_H2_CONN_WINDOW                                                                                 \
  (4u * 1024 * 1024) /* of a connection: 320 Mbit/s at 100 ms; what a visitor may have waiting here */
#define LIMIT_H2_WAITING                                                                                     \
  (1024u * 1024) /* request bytes of a connection that nobody takes, before all of it has to wait */
#define LIMIT_H2_GLITCHES                                                                                    \
  1000u /* frames that cost us and move nothing (PING, SETTINGS, resets, empty DATA) at once ... */
#define LIMIT_H2_GLITCHES_S 100u /* ... and a second: a browser sends a handful */
#define LIMIT_H2_PING_MS 30000u  /* silence of a visitor who waits, before we ask whether it is there */
#define LIMIT_H3_TABLE 4096u     /* QPACK's dynamic table, each way: HPACK's default */
#define LIMIT_H2_UP_STREAMS                                                                                  \
  100u /* requests at once on a connection to a local service over HTTP/2, which may want fewer */
#define LIMIT_H2_UP_CONNS 64u   /* such connections: 6,400 requests, above LIMIT_LINK_STREAMS */
#define LIMIT_H2_UP_TRIES 3u    /* a request that the service says it did not process goes out so often */
#define LIMIT_H2_PONG_MS 20000u /* ... and how long it has to say so */

/* --- visitor controls --- */
#define LIMIT_POLICY_USERS 64u     /* a team; each costs every request a comparison */
#define LIMIT_POLICY_PASSWORD 256u /* USER:PASSWORD: more is a mistake */
#define LIMIT_PASSWORD_TRIES                                                                                 \
  10u /* failed passwords of one address a minute: a person mistypes less, a guesser has 14,400 a day */
#define LIMIT_ADDRESS_RANGES 256u /* address ranges in a list, which is looked through for each visitor */
#define LIMIT_PROXY_HEADER                                                                                   \
  4096u /* PROXY protocol, version 2: addresses, and TLVs that balancers add; some hundred bytes are common */

#define LIMIT_POLICY_EDITS 16u        /* header fields changed each way: half of LIMIT_HEAD_ADDED_FIELDS */
#define LIMIT_POLICY_EDIT_BYTES 4096u /* ... and their text: half of LIMIT_HEAD_ADDED_BYTES */
#define LIMIT_POLICY_ORIGINS 32u      /* for which CORS is answered */
#define LIMIT_RATE_VISITORS                                                                                  \
  16384u /* addresses whose rate, or failed passwords, are known, 2 MB; of more the longest silent is forgotten */

#define LIMIT_ENCODE_STEP                                                                                    \
  (16u * 1024) /* of a response compressed at once: Brotli keeps 1.4 MiB so, 2.1 MiB with 64 KiB */
#define LIMIT_ENCODE_TURN (128u * 1024) /* of all responses of a tunnel in one turn of the loop: about 1 ms */
#define LIMIT_COMPRESS_LEAST 1024u      /* a shorter response fits one packet as it is */
#define LIMIT_COMPRESS_BYTES                                                                                 \
  (32u * 1024 * 1024) /* what encoders of a process may keep: 23 of Brotli, then gzip, then none */

#define LIMIT_CACHE_OBJECT                                                                                   \
  (8u * 1024 * 1024) /* one response kept, or an eighth of the cache: no film drives all else out */
#define LIMIT_CACHE_LEAST (1024u * 1024) /* a smaller cache is a mistake */
#define LIMIT_CACHE_MOST (4096ull * 1024 * 1024)
#define LIMIT_CACHE_VARIANTS 8u                /* responses kept of one address (Vary); the oldest goes */
#define LIMIT_CACHE_SECONDS (365u * 24 * 3600) /* a longer time to live is taken as this */

/* --- TLS --- */
#define LIMIT_HANDSHAKE_MS 10000u /* 10 s covers a satellite and two lost packets */
#define LIMIT_CLIENT_HELLO                                                                                   \
  (16u * 1024)                    /* post-quantum key shares and ECH make 2-4 KiB; 16 KiB is one record */
#define LIMIT_EMPTY_RECORDS 16u   /* empty application records in a row: legal, useless, costs CPU */
#define LIMIT_KEY_UPDATE_MS 1000u /* a peer may ask for new keys once a second */
#define LIMIT_KEY_UPDATE_BURST                                                                               \
  4u /* ... and so many at once: what was sent a second apart may arrive together */
#define LIMIT_KEY_RECORDS                                                                                    \
  (1u << 24) /* records under one sending key; RFC 8446 5.5 allows 2^24.5 for AES-GCM */
#define LIMIT_TICKET_WAIT_MS                                                                                 \
  1000u /* a client keeps the handshake context (42 KiB) this long for its first ticket */
#define LIMIT_TICKET_ROTATE_S                                                                                \
  (12 *                                                                                                      \
   3600u) /* a ticket key seals this long, then opens as long again: what a stolen key betrays is bounded */
#define LIMIT_TLS_IN                                                                                         \
  (64u * 1024) /* plaintext decrypted and not taken: then records stay with the lower stream */
#define LIMIT_TLS_OUT                                                                                        \
  (256u *                                                                                                    \
   1024) /* plaintext written in a turn and not sealed; never more than the lower stream has room for */

/* --- streams --- */
#define LIMIT_STREAM_WINDOW_MIN (64u * 1024) /* a new stream's window: what a stalled visitor may hold */
#define LIMIT_STREAM_WINDOW_MAX (16u * 1024 * 1024) /* 1 Gbit/s at 128 ms */
#define LIMIT_POOL_BYTES                                                                                     \
  (32u * 1024 *                                                                                              \
   1024) /* all windows of a process grow out of this: with it used up a process stays near 64 MiB */
#define LIMIT_POOL_SPARE                                                                                     \
  (LIMIT_POOL_BYTES / 8 * 5) /* what must be free for a socket or stream to hold more than its least */
#define LIMIT_SOCK_MIN                                                                                       \
  (24u *                                                                                                     \
   1024) /* what a socket or a link's stream may hold each way beside the pool: thousands that stall fit */
#define LIMIT_SOCK_IN                                                                                        \
  (256u * 1024) /* received and not consumed while LIMIT_POOL_SPARE is free: bulk needs big reads */
#define LIMIT_SOCK_OUT (256u * 1024) /* the same of what was written */
#define LIMIT_SOCK_SHARED                                                                                    \
  (128u *                                                                                                    \
   1024) /* of a link, in the kernel and here each: what a small stream waits for a bulk one, beside what is on its way */
#define LIMIT_SOCK_DRAIN_MS 30000u /* closed in order: what was written may take this long to leave */
#define LIMIT_SOCK_LINGER_MS                                                                                 \
  2000u /* all of it sent: wait for the peer's end this long, else closing may reset what it has yet to read */
#define LIMIT_SPARE_BLOCKS 64u       /* 64 KiB read blocks kept for reuse by a process: 4 MiB */
#define LIMIT_MEM_PIPE (256u * 1024) /* in-process stream, each direction */

/* --- network --- */
#define LIMIT_DIAL_ADDRS                                                                                     \
  16u /* addresses of one name that are tried: a timeout comes before more are reached */
#define LIMIT_DIAL_STAGGER_MS 250u /* before the next address is tried beside the last: RFC 8305 section 8 */
#define LIMIT_RESOLVES 64u         /* name look-ups under way, one thread each */
#define LIMIT_ACCEPTS 64u          /* connections accepted in one turn: then the others' events get theirs */
#define LIMIT_ACCEPT_PAUSE_MS                                                                                \
  100u /* out of descriptors: newcomers wait in the backlog this long, then we look again */

#define LIMIT_TCP_IDLE_S                                                                                     \
  60 /* a connection's silence before the kernel asks whether the other end is there, four times, 15 s apart */
#define LIMIT_TCP_UNHEARD_MS                                                                                 \
  120000u /* bytes were sent and nothing came back for so long: as long as those probes take */

#define LIMIT_UDP_BUFFER                                                                                     \
  (4u * 1024 * 1024) /* a UDP socket's, in the kernel, each way: 30 ms of 1 Gbit/s while the loop is busy */

/* --- UDP tunnels --- */
#define LIMIT_UDP_PAYLOAD 65527u /* of a datagram over IPv6 without jumbograms; IPv4 has 65507 */
#define LIMIT_UDP_IDLE_MS                                                                                    \
  120000u /* a conversation's silence; RFC 4787 REQ-5: not less than two minutes, services count on it */
#define LIMIT_UDP_NEW_MS                                                                                     \
  30000u /* ... of a flow whose visitor has not spoken again after an answer: a question is done, an address may be forged */
#define LIMIT_UDP_AGENT_IDLE_MS                                                                              \
  900000u /* the agent's own end of a flow, should a relay never end it: well above what a relay may be told */
#define LIMIT_UDP_FLOWS                                                                                      \
  2048u /* of one tunnel: half of a link's streams, so that a flood leaves its other tunnels room */
#define LIMIT_UDP_FLOWS_RELAY 16384u /* of all tunnels of a relay: about 50 MB */
#define LIMIT_UDP_FLOW_RATE                                                                                  \
  256u /* new flows of a tunnel a second once LIMIT_UDP_FLOWS were made at once: each costs the agent a socket */
#define LIMIT_UDP_WAIT                                                                                       \
  (16u * 1024) /* of a flow whose link, or local service, is not there yet: a few questions, no backlog */
#define LIMIT_UDP_FIRST_MS                                                                                   \
  1000u /* datagrams keep to the stream until the far end answered, or so long: then it knows the flow */
#define LIMIT_UDP_FLOW_BUFFER                                                                                \
  (256u * 1024) /* an agent's socket of one flow, in the kernel: 2,048 of them hold 1 GiB at the very most */

/* --- QUIC --- */
#define LIMIT_QUIC_IDLE_MS 30000u /* silence after which a connection is dead: three missed PINGs */
#define LIMIT_QUIC_DOUBT_MS                                                                                  \
  1000u /* the network says the peer is gone, and it answers nothing for so long (or three PTOs) */
#define LIMIT_QUIC_KEEPALIVE_MS 15000u /* a client says something so often: NAT bindings live 30 s and more */
#define LIMIT_QUIC_FIRST_RTT_MS                                                                              \
  100u /* a path's round trip until it is known: three of them after a handshake's packet it is sent again */
#define LIMIT_QUIC_CLOSE_MS 5000u /* last words and streams closed in order drain at most so long */
#define LIMIT_QUIC_HALF_OPEN                                                                                 \
  1024u /* handshakes under way at an endpoint, each about 50 KiB: further ones are not answered */
#define LIMIT_QUIC_HALF_OPEN_FREE                                                                            \
  64u /* from so many on newcomers prove their address first (Retry); a handshake costs 3 ms of CPU */
#define LIMIT_QUIC_HALF_OPEN_ADDR 8u /* the same for one address (or /48, /64): a flood from there alone */
#define LIMIT_QUIC_REPLIES                                                                                   \
  1000u /* stateless replies (Retry, reset, version negotiation) a second: what forged addresses can cause */
#define LIMIT_QUIC_WINDOW                                                                                    \
  (24u * 1024 * 1024)         /* a connection's: more than one stream's; bounds what waits out of order */
#define LIMIT_QUIC_EARLY 512u /* bytes before the handshake is over: versions and features */
#define LIMIT_QUIC_SESSION (16u * 1024u) /* ticket, secret and parameters of a session to resume */
#define LIMIT_QUIC_DATAGRAMS                                                                                 \
  (64u * 1024) /* datagrams that wait to be sent: beyond it they are lost, as datagrams are */
#define LIMIT_QUIC_DATAGRAMS_MORE                                                                            \
  (256u * 1024) /* ... while LIMIT_POOL_SPARE is free: a burst of 200; they are charged to the pool */
#define LIMIT_QUIC_DATAGRAMS_IN                                                                              \
  (1024u * 1024) /* ... that one poll brought: their owner is told in the same turn */

/* --- links --- */
#define LIMIT_CONTROL_BYTES (16u * 1024) /* one control message */
#define LIMIT_CONTROL_RATE 100u          /* control messages a second before a peer is a flood */
#define LIMIT_CONNECTS                                                                                       \
  64u /* streams to a private tunnel that one message asks for: a browser opens six at once */
#define LIMIT_STREAM_OPEN (4u * 1024) /* the StreamOpen message */
#define LIMIT_LINK_STREAMS 4096u      /* concurrent streams of one link: an agent's fair share */
#define LIMIT_LINK_RESETS 10000u /* streams a peer may abort within a second: wrk closing is a few hundred */
#define LIMIT_PING_MS 10000u     /* control PING every 10 s ... */
#define LIMIT_PONG_MS 8000u      /* ... dead 8 s later: noticed in under 20 s */
#define LIMIT_WS_IN                                                                                          \
  (64u * 1024) /* of a WebSocket, unmasked and not taken: then frames stay with the lower stream */
#define LIMIT_WS_FRAME (64u * 1024)     /* of what we send: nothing else can be said within a frame */
#define LIMIT_WS_MESSAGE (1024u * 1024) /* of what we take; ours are one frame, some proxies join them */
#define LIMIT_AGENT_RELAYS 4u    /* relays a tunnel is at: two survive one's loss, more is rarely run */
#define LIMIT_LINKS_PER_NAME 8u  /* links of one agent that share a name: more than a machine has cores for */
#define LIMIT_LINK_WAIT_MS 2000u /* a request waits this long for the agent's next link, then 503 */
#define LIMIT_EVENTS_WAIT_MS                                                                                 \
  30000u /* an EventSource so long: any answer but 200 ends it for good, and its page shows old things until it is loaded again */
#define LIMIT_HELLO_MS 5000u /* HELLO must follow the handshake */

/* --- relay --- */
#define LIMIT_WORKERS 64u     /* more loops than any machine we know has use for */
#define LIMIT_VISITORS 16000u /* connections a process: below the common hard limit of 20,000 descriptors */
#define LIMIT_VISITORS_PER_ADDR 512u /* one address: an office behind NAT fits, a flood does not */
#define LIMIT_REQUESTS_PER_ADDR                                                                              \
  2048u /* requests under way of one address: twenty browsers with a hundred streams each */
#define LIMIT_REQUESTS_PER_TUNNEL                                                                            \
  4096u /* requests under way to one tunnel, on all its links: what a link has streams for */
#define LIMIT_CONNECTIONS_PER_TUNNEL 4096u /* the same of a TCP or TLS tunnel */
#define LIMIT_SESSIONS 20000u              /* agents a relay */
#define LIMIT_ROUTES_IDLE                                                                                    \
  20000u /* names whose agent is gone that are remembered for an hour, route and certificate, 6 KB each: all sessions' */
#define LIMIT_TUNNELS_PER_SESSION 32u /* a beam.yml with more is a mistake */
#define LIMIT_NAMES_PER_PRINCIPAL 64u /* names one device may hold */
#define LIMIT_NAMES_TOTAL                                                                                    \
  1000000u /* names a store holds, about 200 MB of disk: devices cost nothing to make */
#define LIMIT_NAME_DRAWN_DAYS 90u /* a drawn name nobody used so long: it is in nobody's bookmarks any more */
#define LIMIT_NAME_WANTED_DAYS 365u /* the same for a wanted one: what is done once a year still finds it */
#define LIMIT_AUDIT_DAYS 400u       /* the audit chain reaches back a year and a month: yearly reviews fit */
#define LIMIT_AUDIT_ROWS                                                                                     \
  1000000u /* ... unless strangers filled it: about 300 MB, six days of the full rate on one worker */
#define LIMIT_FORGET_MS                                                                                      \
  3600000u /* how often too old rows are looked for: in between no flood makes more than a few MB of them */
#define LIMIT_FRESH_PER_HOUR                                                                                 \
  100u /* new names for one address: a classroom behind NAT fits, a flood does not */
#define LIMIT_FRESH_ADDRS                                                                                    \
  65536u /* addresses that got some within the hour: 6 MB; beyond, nobody new gets any */
#define LIMIT_AUDIT_RATE                                                                                     \
  2u /* audit rows a second and worker, on average: strangers cause them, and they stay */
#define LIMIT_AUDIT_BURST 200u       /* a relay that restarts sees all its agents at once */
#define LIMIT_PENDING_REQUESTS 1024u /* requests waiting for one session's next link */

/* --- store --- */
#define LIMIT_STORE_QUEUE 4096u /* waiting operations; full: new binds are refused */
#define LIMIT_PORTS_TRIED 8u    /* drawn public ports that other programs have, before a bind is refused */
#define LIMIT_NAME_DRAWS 10u    /* random names tried before hex digits */

/* --- loop --- */
#define LIMIT_POSTS 65536u /* cross-thread posts waiting on one loop */

#endif
