// Package balancer decides which origin serves a stream.
//
//	publish/play ──Pick──▶ pin: stream → origin ──▶ Lease (held while the session lives)
//	HLS poll ─────Lookup─▶ the pin's origin, or rendezvous hashing when nothing is pinned (no state)
//	supervisor ───Update/Remove──▶ the set of origins
//
// It holds plain records and never a connection: everything here can live in
// another process (Redis) without a caller noticing. It does not dial, probe or
// relay anything.
package balancer

import (
	"context"
	"errors"
	"time"
)

// Errors that callers branch on.
var (
	// ErrNoOrigin says that no origin is available: none registered, or all of
	// them drain, were ejected after dial failures, or were excluded by the caller.
	ErrNoOrigin = errors.New("no origin is available")
	// ErrOwnerUnreachable says that the stream has a live publisher on an origin
	// that the caller excluded: a second origin would split the stream.
	ErrOwnerUnreachable = errors.New("the origin that owns the stream cannot be reached")
	// ErrTooManyStreams says that every lease slot is held by a live session.
	ErrTooManyStreams = errors.New("too many streams are pinned")
	// ErrUnavailable says that the balancer keeps its state in another process, which
	// does not answer, and that the stream is not among those it knows without asking.
	ErrUnavailable = errors.New("the state store cannot be reached")
	// ErrNoRoute says that no route is stored under the key, or that it expired.
	ErrNoRoute = errors.New("no such route")
)

// DefaultVhost is SRS's name for the vhost that serves every host it does not know.
const DefaultVhost = "__defaultVhost__"

// Stream is the routing key, the same from every protocol. Vhost is already
// folded to DefaultVhost where the origins do not know the host; secrets of the
// URL's query never become part of it.
type Stream struct {
	Vhost string `json:"vhost"`
	App   string `json:"app"`
	Name  string `json:"name"`
}

// String is the form of the existing proxy's keys: vhost/app/name.
func (s Stream) String() string { return s.Vhost + "/" + s.App + "/" + s.Name }

// Role is what a session does with the stream.
type Role int

// A session publishes or plays.
const (
	Play Role = iota
	Publish
)

func (r Role) String() string {
	if r == Publish {
		return "publish"
	}
	return "play"
}

// State tells whether new streams may be placed on an origin.
type State int

// Up takes new streams; Draining keeps the streams that are being published to
// it (their players may still come) and takes no new ones.
const (
	Up State = iota
	Draining
)

// Endpoints are the addresses ("ip:port") on which an origin serves each
// protocol; empty where it does not.
type Endpoints struct {
	RTMP string `json:"rtmp,omitempty"`
	HTTP string `json:"http,omitempty"`
	API  string `json:"api,omitempty"`
	SRT  string `json:"srt,omitempty"`
	RTC  string `json:"rtc,omitempty"`
}

// Load is what was last measured of an origin.
type Load struct {
	// CPU is the share of one core in use, 0 to 1 (SRS is single-threaded).
	CPU float64 `json:"cpu"`
	// Bitrate is bits per second, in and out together.
	Bitrate float64 `json:"bitrate"`
}

// Origin is one server that can hold streams. ID names the place, not the
// process: a supervised slot keeps its ID over restarts.
type Origin struct {
	ID        string    `json:"id"`
	State     State     `json:"state"`
	Endpoints Endpoints `json:"endpoints"`
	Load      Load      `json:"load"`
	// Service is the random id that SRS gives each process; a change means that
	// the process behind ID was replaced, so what was pinned to it is gone.
	Service string `json:"service,omitempty"`
}

// Request asks for an origin for one session.
type Request struct {
	Stream Stream
	Role   Role
	// Exclude names origins that this session could not reach.
	Exclude []string
}

// Lease pins a stream to an origin while a session lives. It is a plain record;
// give it back with Release exactly once.
type Lease struct {
	Stream Stream
	Role   Role
	Origin Origin
	// Pin tells apart the pins that one stream had over time, so that the
	// release of a session of a dead origin does not touch the pin that followed.
	Pin uint64
	// Served and Refused are for Release of a publish: the origin accepted it, or it
	// refused without a word. After MaxRefusals in a row, with no other publisher, the
	// stream goes to another origin; after the first, if a publish that was served
	// ended less than ReturnTime ago. Neither is set if it never came to that.
	Served, Refused bool
}

// MaxRefusals is after how many refused publishes in a row a stream is not sent to
// its origin again. SRS refuses a publish while it still unmounts the HTTP-FLV stream of
// the one before (ERROR_STREAM_DISPOSING), and from then on takes the stream for busy,
// for ever (SrsLiveSource::on_publish fails halfway). An origin that refuses for a
// reason, a hook or a second publisher, is not left at the first word; ReturnTime is for
// how long after a publish that was accepted that reason is the unlikely one.
const (
	MaxRefusals = 3
	ReturnTime  = 30 * time.Second
)

// Status is an origin with what the balancer knows of it.
type Status struct {
	Origin
	// Streams counts pinned streams, idle ones included.
	Streams int `json:"streams"`
	// Publishers and Players count leases of live sessions.
	Publishers int `json:"publishers"`
	Players    int `json:"players"`
	// EjectedUntil is set while dial failures keep the origin from being picked.
	EjectedUntil time.Time `json:"ejected_until,omitzero"`
}

// RouteKind tells apart the name spaces of session routes.
type RouteKind string

// WebRTC routes are keyed by ICE ufrag, HLS routes by SPBHID.
const (
	RouteWebRTC RouteKind = "rtc"
	RouteHLS    RouteKind = "hls"
)

// Route ties a session id to its stream and origin.
type Route struct {
	Stream Stream `json:"stream"`
	Origin string `json:"origin"`
	// Sealed is what else the session's owner keeps there, encrypted by it: whoever reads
	// the store must not learn a session's password.
	Sealed string `json:"sealed,omitempty"`
}

// Balancer is the contract; every method is atomic and safe for concurrent use.
type Balancer interface {
	// Update registers an origin or refreshes it. If Service changed, the leases
	// of the process that was there before are forgotten.
	Update(ctx context.Context, o Origin) error
	// Remove forgets an origin and every pin on it at once. Unknown ids are no error.
	Remove(ctx context.Context, id string) error
	// Pick returns the origin of a stream, placing the stream if it has none.
	// Concurrent first picks of one stream agree. A pin with a live publisher
	// moves only if its origin is gone; another pin also moves when its origin is
	// draining, ejected or excluded.
	Pick(ctx context.Context, r Request) (Lease, error)
	// Release ends a session. After the last one, a pin that had a publisher
	// idles (default 60 s) and is then forgotten; one that had none goes at once.
	Release(ctx context.Context, l Lease) error
	// Lookup answers for a request without a session (an HLS poll): the pinned
	// origin or, with no pin, rendezvous hashing over the available ones. It
	// keeps no state.
	Lookup(ctx context.Context, s Stream) (Origin, error)
	// ReportDial tells how a dial of an origin went: failures in a row eject it
	// for a time, a success (nil) clears them.
	ReportDial(ctx context.Context, id string, err error)
	// Origins lists all origins by ID.
	Origins(ctx context.Context) ([]Status, error)
	// StoreRoute keeps a session's route for ttl; LoadRoute finds it or returns ErrNoRoute.
	StoreRoute(ctx context.Context, kind RouteKind, key string, r Route, ttl time.Duration) error
	LoadRoute(ctx context.Context, kind RouteKind, key string) (Route, error)
}
