package udp

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// batchSize is how many datagrams one system call moves at most. More gains little:
// the cost of a system call is by then a hundredth of that of its datagrams.
const batchSize = 64

// mmsghdr is the kernel's struct mmsghdr (recvmmsg(2)); Go pads it as C does.
type mmsghdr struct {
	unix.Msghdr
	n uint32 // bytes of payload that were moved
}

// inbox has the buffers that datagrams are received into, and is used again and again.
// All pointers inside are set once.
type inbox struct {
	msgs      [batchSize]mmsghdr
	iovecs    [batchSize]unix.Iovec
	envelopes [batchSize]envelope
	payloads  [batchSize][MaxDatagram]byte
}

func newInbox() *inbox {
	in := new(inbox)
	for i := range in.msgs {
		m, e := &in.msgs[i], &in.envelopes[i]
		in.iovecs[i].Base = &in.payloads[i][0]
		in.iovecs[i].SetLen(MaxDatagram)
		m.Iov = &in.iovecs[i]
		m.SetIovlen(1)
		m.Name = (*byte)(unsafe.Pointer(&e.name))
		m.Control = (*byte)(unsafe.Pointer(&e.control))
	}
	return in
}

// receive takes what waits in a socket, up to a batch, without waiting for more. What
// was received before is gone. An error stands for no datagram. Go's scheduler is not
// told of this call, nor of those that send (package epoll says why).
func (in *inbox) receive(fd int) (int, unix.Errno) {
	for i := range in.msgs {
		m := &in.msgs[i]
		m.Namelen = uint32(unsafe.Sizeof(in.envelopes[i].name))
		m.SetControllen(int(unsafe.Sizeof(in.envelopes[i].control)))
	}
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&in.msgs)), batchSize, unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

// payload is the i-th datagram received; false if it was too long to be taken whole.
func (in *inbox) payload(i int) ([]byte, bool) {
	m := &in.msgs[i]
	return in.payloads[i][:m.n:m.n], m.Flags&unix.MSG_TRUNC == 0
}

// outbox gathers datagrams of one socket. It does not copy payloads.
type outbox struct {
	n         int
	msgs      [batchSize]mmsghdr
	iovecs    [batchSize]unix.Iovec
	envelopes [batchSize]envelope
	// same says of a datagram that it is addressed as the one before it.
	same [batchSize]bool
	runs runs
}

// add takes a payload; the caller addresses it. The outbox must not be full.
func (out *outbox) add(payload []byte) (*unix.Msghdr, *envelope) {
	i := out.n
	out.n++
	m := &out.msgs[i]
	out.iovecs[i].Base = unsafe.SliceData(payload)
	out.iovecs[i].SetLen(len(payload))
	m.Iov = &out.iovecs[i]
	m.SetIovlen(1)
	out.same[i] = false
	return &m.Msghdr, &out.envelopes[i]
}

// addSame takes a payload for where the one before it goes.
func (out *outbox) addSame(payload []byte) {
	before := &out.msgs[out.n-1].Msghdr
	m, _ := out.add(payload)
	m.Name, m.Namelen = before.Name, before.Namelen
	m.Control, m.Controllen = before.Control, before.Controllen
	out.same[out.n-1] = true
}

func (out *outbox) full() bool { return out.n == batchSize }

// flush sends all that was added and says how many datagrams the socket took.
func (out *outbox) flush(fd int) (sent int) {
	sent = out.send(fd, out.gather())
	out.n = 0
	return sent
}

// send sends messages. One that cannot be sent (no route, too long for the path) does
// not keep back those after it; when the socket's buffer is full, the rest is lost: it
// would be late anyway.
func (out *outbox) send(fd int, msgs []mmsghdr) (sent int) {
	for i := 0; i < len(msgs); {
		n, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&msgs[i])), uintptr(len(msgs)-i), unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			for _, m := range msgs[i : i+int(n)] {
				sent += int(m.Iovlen)
			}
			i += int(n)
		case unix.EINTR:
		case unix.EAGAIN, unix.ENOBUFS:
			return sent
		default:
			if msgs[i].Iovlen > 1 {
				sent += out.sendApart(fd, &msgs[i], errno)
			}
			i++
		}
	}
	return sent
}
