package udp

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// bufferSize is that of each shared socket, in bytes and each way: a key frame for
// every one of some hundred players comes in one burst. The kernel gives less where
// net.core.rmem_max and wmem_max are lower and we are not root.
const bufferSize = 8 << 20

// openPublic makes a socket that clients send to and binds it. The family is AF_INET6
// for all interfaces, where IPv4 comes as v4-in-v6, unless the host has no IPv6.
func openPublic(addr *net.UDPAddr, port int, reuse bool) (fd, family int, err error) {
	if port == 0 {
		port = addr.Port
	}
	if addr.IP.To4() == nil {
		fd, err = openBound(unix.AF_INET6, sockaddr6(addr, port), reuse)
		if err == nil || addr.IP != nil && !addr.IP.IsUnspecified() || !noIPv6(err) {
			return fd, unix.AF_INET6, err
		}
	}
	sa := &unix.SockaddrInet4{Port: port}
	copy(sa.Addr[:], addr.IP.To4())
	fd, err = openBound(unix.AF_INET, sa, reuse)
	return fd, unix.AF_INET, err
}

func noIPv6(err error) bool {
	return errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EADDRNOTAVAIL)
}

func sockaddr6(addr *net.UDPAddr, port int) *unix.SockaddrInet6 {
	sa := &unix.SockaddrInet6{Port: port}
	copy(sa.Addr[:], addr.IP.To16())
	if i, err := net.InterfaceByName(addr.Zone); addr.Zone != "" && err == nil {
		sa.ZoneId = uint32(i.Index)
	}
	return sa
}

func openBound(family int, sa unix.Sockaddr, reuse bool) (int, error) {
	fd, err := openSocket(family)
	if err != nil {
		return -1, err
	}
	err = errors.Join(
		dualStack(fd, family),
		setOption(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, flag(reuse)),
		withLocalAddress(fd, family),
	)
	if err == nil {
		err = os.NewSyscallError("bind", unix.Bind(fd, sa))
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	enlarge(fd)
	return fd, nil
}

func dualStack(fd, family int) error {
	if family != unix.AF_INET6 {
		return nil
	}
	return setOption(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0)
}

// withLocalAddress asks for the address that each datagram was sent to.
func withLocalAddress(fd, family int) error {
	if family == unix.AF_INET6 {
		return setOption(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
	}
	return setOption(fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
}

// openWildcard makes the socket toward all origins on loopback. It belongs to the
// loopback interface, so that nothing from the network gets as far as its buffer;
// where a kernel refuses that, datagrams of strangers are told by their addresses alone.
func openWildcard() (int, error) {
	fd, err := openBound(unix.AF_INET, &unix.SockaddrInet4{}, false)
	if err == nil {
		_ = unix.BindToDevice(fd, "lo")
	}
	return fd, err
}

// openConnected makes the socket of one session toward an origin elsewhere.
func openConnected(origin netip.AddrPort) (fd int, local netip.AddrPort, err error) {
	family := unix.AF_INET
	var sa unix.Sockaddr
	if ip := origin.Addr(); ip.Is4() {
		sa = &unix.SockaddrInet4{Port: int(origin.Port()), Addr: ip.As4()}
	} else {
		family, sa = unix.AF_INET6, sockaddr6(net.UDPAddrFromAddrPort(origin), int(origin.Port()))
	}
	if fd, err = openSocket(family); err != nil {
		return -1, local, err
	}
	if err = os.NewSyscallError("connect", unix.Connect(fd, sa)); err == nil {
		local, err = localOf(fd)
	}
	if err != nil {
		unix.Close(fd)
		return -1, local, err
	}
	return fd, local, nil
}

func openSocket(family int) (int, error) {
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	return fd, os.NewSyscallError("socket", err)
}

func setOption(fd, level, name, value int) error {
	if err := unix.SetsockoptInt(fd, level, name, value); err != nil {
		return fmt.Errorf("set socket option %d/%d: %w", level, name, err)
	}
	return nil
}

// enlarge asks for big buffers and takes what it gets: the FORCE options go beyond
// the system's limits and are root's.
func enlarge(fd int) {
	for _, o := range [][2]int{{unix.SO_RCVBUFFORCE, unix.SO_RCVBUF}, {unix.SO_SNDBUFFORCE, unix.SO_SNDBUF}} {
		if unix.SetsockoptInt(fd, unix.SOL_SOCKET, o[0], bufferSize) != nil {
			_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, o[1], bufferSize)
		}
	}
}

func flag(on bool) int {
	if on {
		return 1
	}
	return 0
}

func portOf(fd int) (int, error) {
	local, err := localOf(fd)
	return int(local.Port()), err
}

func localOf(fd int) (netip.AddrPort, error) {
	sa, err := unix.Getsockname(fd)
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port)), nil
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), uint16(sa.Port)), nil
	}
	return netip.AddrPort{}, os.NewSyscallError("getsockname", err)
}
