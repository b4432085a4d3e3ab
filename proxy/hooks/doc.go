// Package hooks stands between the origins and the operator's hook servers, because
// an origin does not know its RTMP and SRT clients' addresses.
//
//	origin ── POST http://127.0.0.1:19999/SEALED/... {"ip":"127.64.18.7"} ─▶ Relay
//	                                                                           │
//	origin ◀── the hook's status and body ── Relay ◀── hook ◀── {"ip":"203.0.113.9"}
//
// A Sealer makes such URLs out of those in a config; what they lead to is encrypted
// in them. So the relay needs no table, an origin's config stays good for another
// process, and nobody can have it call what was in no config.
//
// The relay changes the address and nothing else. It does not retry, cache or judge:
// when the hook does not answer, the origin decides what that means, as ever.
package hooks
