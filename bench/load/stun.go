package load

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1"
	"encoding/binary"
	"hash/crc32"
)

// STUN (RFC 8489) as a client of ICE sends it: a connectivity check that nominates its
// path at once (RFC 8445, section 7.1).
const (
	stunHeader     = 20
	stunCookie     = 0x2112a442
	stunRequest    = 0x0001
	stunSuccess    = 0x0101
	attrUsername   = 0x0006
	attrIntegrity  = 0x0008
	attrPriority   = 0x0024
	attrUse        = 0x0025
	attrFinger     = 0x8028
	attrController = 0x802a

	// hostPriority is that of a host's only candidate (RFC 8445, section 5.1.2.1).
	hostPriority  = 126<<24 | 65535<<8 | 255
	fingerprintOf = 0x5354554e
)

// bindingRequest is a check of username "remote:local" with the remote's password.
func bindingRequest(username, password string) []byte {
	b := make([]byte, stunHeader, 160)
	binary.BigEndian.PutUint16(b, stunRequest)
	binary.BigEndian.PutUint32(b[4:], stunCookie)
	_, _ = rand.Read(b[8:stunHeader]) // never fails
	var tie [8]byte
	_, _ = rand.Read(tie[:]) // never fails
	b = appendAttribute(b, attrUsername, []byte(username))
	b = appendAttribute(b, attrController, tie[:])
	b = appendAttribute(b, attrPriority, binary.BigEndian.AppendUint32(nil, hostPriority))
	b = appendAttribute(b, attrUse, nil)
	// The length that is signed ends behind the signature.
	setLength(b, len(b)+4+sha1.Size)
	mac := hmac.New(sha1.New, []byte(password))
	mac.Write(b)
	b = appendAttribute(b, attrIntegrity, mac.Sum(nil))
	setLength(b, len(b)+8)
	return appendAttribute(b, attrFinger, binary.BigEndian.AppendUint32(nil, crc32.ChecksumIEEE(b)^fingerprintOf))
}

func setLength(b []byte, end int) { binary.BigEndian.PutUint16(b[2:], uint16(end-stunHeader)) }

func appendAttribute(b []byte, kind uint16, value []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, kind)
	b = binary.BigEndian.AppendUint16(b, uint16(len(value)))
	b = append(b, value...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

// isBindingSuccess says that b answers the request.
func isBindingSuccess(b, request []byte) bool {
	return len(b) >= stunHeader && binary.BigEndian.Uint16(b) == stunSuccess && string(b[4:stunHeader]) == string(request[4:stunHeader])
}
