package udp

// WithoutRuns has the shards send each datagram as a message of its own, as where the
// kernel has no UDP_SEGMENT. It is for before Run.
func (s *Server) WithoutRuns() {
	for _, sh := range s.shards {
		sh.toClients.runs.off, sh.toOrigins.runs.off, sh.across.runs.off = true, true, true
	}
}
