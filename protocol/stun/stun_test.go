package stun_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	pion "github.com/pion/stun/v3"

	"srs-proxy/protocol/stun"
)

const (
	password = "lqBTwPZXSpUQ0Gd3QVBEvK8ZJmZ9rW1a"
	username = "a1b2c3d4:EsAw"
)

// check is a connectivity check as pion builds it, which no code of ours has touched.
func check(t testing.TB, setters ...pion.Setter) []byte {
	t.Helper()
	m, err := pion.Build(append([]pion.Setter{pion.TransactionID, pion.BindingRequest}, setters...)...)
	if err != nil {
		t.Fatal(err)
	}
	return m.Raw
}

func genuine(t testing.TB) []byte {
	return check(t, pion.NewUsername(username), pion.RawAttribute{Type: pion.AttrPriority, Value: []byte{0x6e, 0, 1, 0xff}},
		pion.RawAttribute{Type: pion.AttrUseCandidate}, pion.NewShortTermIntegrity(password), pion.Fingerprint)
}

func TestGenuineCheck(t *testing.T) {
	for _, pwd := range []string{password, strings.Repeat("long", 40)} {
		raw := check(t, pion.NewUsername(username), pion.RawAttribute{Type: pion.AttrUseCandidate}, pion.NewShortTermIntegrity(pwd), pion.Fingerprint)
		m, err := stun.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		if !m.IsBindingRequest() || string(m.Username()) != username || !m.UseCandidate() {
			t.Errorf("request %v, username %q, use-candidate %v", m.IsBindingRequest(), m.Username(), m.UseCandidate())
		}
		v := stun.NewVerifier()
		if !v.Verify(&m, stun.NewKey(pwd)) {
			t.Error("a genuine check is not verified")
		}
		if v.Verify(&m, stun.NewKey(pwd+"x")) || v.Verify(&m, stun.NewKey("")) {
			t.Error("another password verifies the check")
		}
		if !v.Verify(&m, stun.NewKey(pwd)) {
			t.Error("a failure spoils the verifier")
		}
	}
}

// RFC 5769, section 2.1: a request by another implementation, with padding that is
// not zero.
func TestRFC5769Request(t *testing.T) {
	raw := []byte("\x00\x01\x00\x58\x21\x12\xa4\x42\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae" +
		"\x80\x22\x00\x10STUN test client" +
		"\x00\x24\x00\x04\x6e\x00\x01\xff" +
		"\x80\x29\x00\x08\x93\x2f\xf9\xb1\x51\x26\x3b\x36" +
		"\x00\x06\x00\x09\x65\x76\x74\x6a\x3a\x68\x36\x76\x59\x20\x20\x20" +
		"\x00\x08\x00\x14\x9a\xea\xa7\x0c\xbf\xd8\xcb\x56\x78\x1e\xf2\xb5\xb2\xd3\xf2\x49\xc1\xb5\x71\xa2" +
		"\x80\x28\x00\x04\xe5\x7a\x3b\xcf")
	m, err := stun.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	if got := string(m.Username()); got != "evtj:h6vY" {
		t.Errorf("username = %q", got)
	}
	if !stun.NewVerifier().Verify(&m, stun.NewKey("VOkJxbRl1RmTxUk/WvJxBt")) {
		t.Error("not verified")
	}
}

// Every bit before MESSAGE-INTEGRITY, and of it, counts.
func TestEveryBitCounts(t *testing.T) {
	raw := genuine(t)
	end := len(raw) - 8 // FINGERPRINT comes after it
	key, v := stun.NewKey(password), stun.NewVerifier()
	for bit := range end * 8 {
		forged := bytes.Clone(raw)
		forged[bit/8] ^= 1 << (bit % 8)
		if m, err := stun.Parse(forged); err == nil && v.Verify(&m, key) {
			t.Errorf("verified with bit %d of byte %d turned", bit%8, bit/8)
		}
	}
}

func TestRefused(t *testing.T) {
	attr := func(kind uint16, value string) string {
		b := binary.BigEndian.AppendUint16(nil, kind)
		b = binary.BigEndian.AppendUint16(b, uint16(len(value)))
		return string(b) + value + strings.Repeat("\x00", (4-len(value)%4)%4)
	}
	message := func(attrs string) string {
		b := binary.BigEndian.AppendUint16([]byte{0, 1}, uint16(len(attrs)))
		return string(b) + "\x21\x12\xa4\x42transaction!" + attrs
	}
	integrity := attr(8, strings.Repeat("i", 20))
	for _, tt := range []struct {
		name, raw string
		want      error
	}{
		{"nothing", "", stun.ErrNotSTUN},
		{"a header cut short", message("")[:19], stun.ErrNotSTUN},
		{"no attributes", message(""), nil},
		{"the datagram of 21 bytes", message("") + "\x00", stun.ErrLength},
		{"another cookie", strings.Replace(message(""), "\x42", "\x43", 1), stun.ErrNotSTUN},
		{"leading bits", "\x80" + message("")[1:], stun.ErrNotSTUN},
		{"length not a multiple of 4", "\x00\x01\x00\x01\x21\x12\xa4\x42transaction!\x00", stun.ErrLength},
		{"length beyond the end", "\x00\x01\x00\x08\x21\x12\xa4\x42transaction!\x00\x06\x00\x00", stun.ErrLength},
		{"length before the end", "\x00\x01\x00\x00\x21\x12\xa4\x42transaction!\x00\x06\x00\x00", stun.ErrLength},
		{"attribute beyond the end", message("\x00\x06\x00\x01"), stun.ErrLength},
		{"attribute far beyond the end", message("\x00\x06\xff\xff"), stun.ErrLength},
		{"the second attribute beyond the end", message(attr(6, "a:b") + "\x00\x25\x00\x04"), stun.ErrLength},
		{"integrity of 16 bytes", message(attr(8, strings.Repeat("i", 16))), stun.ErrLength},
		{"32 attributes", message(strings.Repeat(attr(0x8022, "x"), 32)), nil},
		{"33 attributes", message(strings.Repeat(attr(0x8022, "x"), 33)), stun.ErrTooLarge},
		{"1280 bytes", message(attr(0x8022, strings.Repeat("x", 1256))), nil},
		{"1284 bytes", message(attr(0x8022, strings.Repeat("x", 1260))), stun.ErrTooLarge},
		{"two usernames", message(attr(6, "a:b") + attr(6, "c:d") + integrity), stun.ErrAmbiguous},
		{"a username after the integrity", message(attr(6, "a:b") + integrity + attr(6, "c:d")), stun.ErrAmbiguous},
		{"two integrities", message(attr(6, "a:b") + integrity + integrity), stun.ErrAmbiguous},
		{"fingerprint and SHA-256 after the integrity", message(integrity + attr(0x1c, strings.Repeat("s", 32)) + attr(0x8028, "crc!")), nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m, err := stun.Parse([]byte(tt.raw))
			if !errors.Is(err, tt.want) {
				t.Fatalf("Parse = %v, want %v", err, tt.want)
			}
			if err == nil && stun.NewVerifier().Verify(&m, stun.NewKey(password)) {
				t.Error("verified")
			}
		})
	}
}

func TestIs(t *testing.T) {
	for first, want := range map[byte]bool{0: true, 1: true, 3: true, 4: false, 20: false, 63: false, 128: false, 255: false} {
		if got := stun.Is([]byte{first}); got != want {
			t.Errorf("Is(%d) = %v, want %v", first, got, want)
		}
	}
	if stun.Is(nil) {
		t.Error("Is(nil) = true")
	}
}

func TestNoAllocations(t *testing.T) {
	raw, key, v := genuine(t), stun.NewKey(password), stun.NewVerifier()
	ok := true
	if n := testing.AllocsPerRun(1000, func() {
		m, err := stun.Parse(raw)
		ok = ok && err == nil && v.Verify(&m, key)
	}); n != 0 {
		t.Errorf("%v allocations for a check", n)
	}
	if !ok {
		t.Error("not verified")
	}
}

// FuzzParse compares with pion, which is another reader of the same RFC: what we
// verify, it must verify too, with the same username.
func FuzzParse(f *testing.F) {
	raw := genuine(f)
	f.Add(raw)
	f.Add(raw[:21])
	f.Add(raw[:len(raw)-8])
	f.Add(check(f, pion.NewUsername("")))
	f.Add(check(f, pion.NewUsername(username), pion.NewShortTermIntegrity(password), pion.NewUsername("other:name")))
	key, v := stun.NewKey(password), stun.NewVerifier()
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := stun.Parse(b)
		if err != nil || !v.Verify(&m, key) {
			return
		}
		p := &pion.Message{Raw: bytes.Clone(b)}
		if err := p.Decode(); err != nil {
			t.Fatalf("pion cannot read it: %v", err)
		}
		if err := pion.NewShortTermIntegrity(password).Check(p); err != nil {
			t.Fatalf("pion does not verify it: %v", err)
		}
		var name pion.Username
		if err := name.GetFrom(p); err == nil && name.String() != string(m.Username()) {
			t.Fatalf("username %q, pion reads %q", m.Username(), name)
		}
	})
}

func BenchmarkParseAndVerify(b *testing.B) {
	raw, key, v := genuine(b), stun.NewKey(password), stun.NewVerifier()
	b.ReportAllocs()
	for b.Loop() {
		m, _ := stun.Parse(raw)
		v.Verify(&m, key)
	}
}
