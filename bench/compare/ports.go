package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
)

// Ports are looked for below Linux's ephemeral range, in which any connection of this
// machine could take one between our look and its use.
const (
	lowestPort  = 11000
	highestPort = 32000
	// portStride is how many ports of an origin belong together; those of `up` do.
	portStride = 10
)

// freePorts is the first of a stride of ports that nobody has, on TCP and UDP.
func freePorts() (int, error) {
	for range 200 {
		first := lowestPort + rand.IntN((highestPort-lowestPort)/portStride)*portStride
		if allFree(first) {
			return first, nil
		}
	}
	return 0, errors.New("no free ports between 11000 and 32000")
}

func allFree(first int) bool {
	for port := first; port < first+portStride; port++ {
		ln, err := net.Listen("tcp", loopback(port)) //nolint:noctx // takes no time
		if err != nil {
			return false
		}
		ln.Close()
		pc, err := net.ListenPacket("udp", loopback(port)) //nolint:noctx // takes no time
		if err != nil {
			return false
		}
		pc.Close()
	}
	return true
}

func loopback(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }

// endpoints are the addresses of a media server, or of a proxy in front of it.
type endpoints struct{ RTMP, HTTP, API, RTC, SRT string }

// endpointsFrom gives a server consecutive ports.
func endpointsFrom(first int) endpoints {
	return endpoints{loopback(first), loopback(first + 1), loopback(first + 2), loopback(first + 3), loopback(first + 4)}
}

// portsOf is the same with ports alone.
func portsOf(e endpoints) endpoints {
	port := func(addr string) string {
		_, p, _ := net.SplitHostPort(addr)
		return p
	}
	return endpoints{port(e.RTMP), port(e.HTTP), port(e.API), port(e.RTC), port(e.SRT)}
}
