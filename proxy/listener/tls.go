package listener

import (
	"context"
	"crypto/tls"
	"io"
)

// The methods here hide those of the socket: where there is TLS, it is in between. A
// deadline is the socket's own either way.

// TLS is the layer over TCPConn; nil for a plain connection.
func (c *Conn) TLS() *tls.Conn { return c.tls }

// Handshake does that of TLS, within the deadline of the connection; a plain one has
// none. Without it, the first Read or Write does.
func (c *Conn) Handshake(ctx context.Context) error {
	if c.tls == nil {
		return nil
	}
	return c.tls.HandshakeContext(ctx)
}

func (c *Conn) Read(b []byte) (int, error) {
	if c.tls == nil {
		return c.raw.Read(b)
	}
	return c.tls.Read(b)
}

func (c *Conn) Write(b []byte) (int, error) {
	if c.tls == nil {
		return c.raw.Write(b)
	}
	return c.tls.Write(b)
}

// ReadFrom implements io.ReaderFrom, by sendfile(2) and the like for a plain connection.
func (c *Conn) ReadFrom(r io.Reader) (int64, error) {
	if c.tls == nil {
		return c.TCPConn.ReadFrom(r)
	}
	return io.Copy(struct{ io.Writer }{c.tls}, r)
}

// WriteTo implements io.WriterTo.
func (c *Conn) WriteTo(w io.Writer) (int64, error) {
	if c.tls == nil {
		return c.TCPConn.WriteTo(w)
	}
	return io.Copy(w, struct{ io.Reader }{c.tls})
}

// CloseWrite says that no more will come: by close_notify (RFC 8446 section 6.1), which
// a client that takes nothing may hold up for 5 s, and by FIN.
func (c *Conn) CloseWrite() error {
	if c.tls != nil {
		_ = c.tls.CloseWrite() // before the handshake there is nothing to say
	}
	return c.TCPConn.CloseWrite()
}
