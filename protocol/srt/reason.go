package srt

import "fmt"

// Reason is why a connection is refused: below 1,000 libsrt's own (SRT_REJECT_REASON),
// from 1,000 on one that the access control guidelines define after HTTP's status
// codes (SRT_REJX), from 2,000 on the application's.
type Reason uint32

// Reasons that a proxy has.
const (
	ReasonPeer     Reason = 2
	ReasonResource Reason = 3 // internal lack of something
	ReasonRogue    Reason = 4 // wrong data in the handshake
	ReasonVersion  Reason = 8

	ReasonBadRequest  Reason = 1400 // the stream id cannot be read
	ReasonOverload    Reason = 1402
	ReasonForbidden   Reason = 1403
	ReasonBadMode     Reason = 1405
	ReasonUnsupported Reason = 1501 // the rendezvous mode: SRT_REJX_UNIMPLEMENTED
	ReasonGateway     Reason = 1502 // the server behind cannot be used
	ReasonDown        Reason = 1503 // there is no server behind
)

// StageRefused is the first stage that is a refusal: a Reason is added to it.
const StageRefused Stage = 1000

// Refused tells whether a stage is a refusal, and why. (Conclusion and agreement are
// negative numbers, written as unsigned ones here.)
func (s Stage) Refused() (Reason, bool) {
	if s < StageRefused || s >= 1<<31 {
		return 0, false
	}
	return Reason(s - StageRefused), true
}

func (r Reason) String() string {
	switch r {
	case ReasonPeer:
		return "refused by the peer"
	case ReasonResource:
		return "no resources"
	case ReasonRogue:
		return "wrong handshake"
	case ReasonVersion:
		return "wrong version"
	case 10:
		return "wrong passphrase"
	case 11:
		return "passphrase required or unexpected"
	case ReasonBadRequest:
		return "bad request"
	case ReasonOverload:
		return "overload"
	case ReasonBadMode:
		return "bad mode"
	case ReasonForbidden:
		return "forbidden"
	case ReasonUnsupported:
		return "not supported"
	case ReasonGateway:
		return "the origin cannot be reached"
	case ReasonDown:
		return "no origin"
	}
	return fmt.Sprintf("reason %d", uint32(r))
}
