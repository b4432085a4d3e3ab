package udp

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// A frame of video is a burst of datagrams of one length to one peer, and most of what
// a datagram costs is its way down the kernel's layers. With UDP_SEGMENT (udp(7), Linux
// 4.18) a run of them goes that way as one message and is cut apart at the end.

// What the kernel takes as one message: so many datagrams, which are still one IP
// packet's worth of bytes.
const (
	maxSegments = 64
	maxRun      = 60_000
)

// runs are the messages of an outbox in which runs have become one.
type runs struct {
	off      bool // the kernel or a network card cannot do it
	msgs     [batchSize]mmsghdr
	controls [batchSize]runControl
}

// runControl is a pktinfo of either family and the length of a segment.
type runControl struct {
	pktinfo [5]uint64
	segment segmentSize
}

type segmentSize struct {
	header unix.Cmsghdr
	size   uint16
}

const lenSegmentSize = unix.SizeofCmsghdr + 2

// gather returns the messages to send.
func (out *outbox) gather() []mmsghdr {
	if out.runs.off || out.n < 2 {
		return out.msgs[:out.n]
	}
	n := 0
	for i := 0; i < out.n; n++ {
		length := out.run(i)
		out.runs.msgs[n] = out.msgs[i]
		if length > 1 {
			m := &out.runs.msgs[n]
			m.SetIovlen(length) // the payloads' vectors are next to each other
			out.runs.controls[n].set(&m.Msghdr, uint16(out.iovecs[i].Len))
		}
		i += length
	}
	return out.runs.msgs[:n]
}

// run is how many datagrams from the i-th on can be one message: to the same peer, of
// the same length, but for the last, which may be shorter.
func (out *outbox) run(i int) int {
	size := out.iovecs[i].Len
	total := size
	if size == 0 {
		return 1
	}
	for k := 1; ; k++ {
		if i+k == out.n || k == maxSegments || !out.same[i+k] {
			return k
		}
		next := out.iovecs[i+k].Len
		total += next
		switch {
		case next == 0 || next > size || total > maxRun:
			return k
		case next < size:
			return k + 1
		}
	}
}

// set replaces a message's control by one that says how long a segment is, too.
func (c *runControl) set(m *unix.Msghdr, size uint16) {
	length := int(m.Controllen)
	copy(unsafe.Slice((*byte)(unsafe.Pointer(c)), len(c.pktinfo)*8), unsafe.Slice(m.Control, length))
	at := unix.CmsgSpace(length - unix.SizeofCmsghdr) // 32 or 40: before or at the segment's place
	s := (*segmentSize)(unsafe.Add(unsafe.Pointer(c), at))
	s.header = unix.Cmsghdr{Len: lenSegmentSize, Level: unix.SOL_UDP, Type: unix.UDP_SEGMENT}
	s.size = size
	m.Control = (*byte)(unsafe.Pointer(c))
	m.SetControllen(at + lenSegmentSize)
}

// sendApart sends what could not be sent as one message. It may be one of its datagrams
// that cannot be sent; if it is the way of sending (EIO: the network card does no
// checksums), runs are not made any more.
func (out *outbox) sendApart(fd int, run *mmsghdr, errno unix.Errno) int {
	if errno == unix.EIO {
		out.runs.off = true
	}
	first := 0
	for &out.iovecs[first] != run.Iov {
		first++
	}
	return out.send(fd, out.msgs[first:first+int(run.Iovlen)])
}
