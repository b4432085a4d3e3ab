package hooks

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"strconv"
)

// withClient is body with the client's address in the place of the one that the
// origin took for it; the body itself if there is nothing to put in. No other byte
// changes.
//
// SRS writes "ip" ahead of all that a client could have chosen, and what comes after
// it is not looked at, so a broken stream name does not get in the way.
func withClient(body []byte, client func(netip.Addr) (netip.AddrPort, bool)) []byte {
	from, to, ok := addressIn(body)
	if !ok {
		return body
	}
	ip, err := netip.ParseAddr(string(body[from:to]))
	if err != nil {
		return body
	}
	real, ok := client(ip)
	if !ok {
		return body
	}
	out := make([]byte, 0, len(body)+len("255.255.255.255"))
	out = append(out, body[:from]...)
	out = append(out, real.Addr().Unmap().WithZone("").String()...)
	return append(out, body[to:]...)
}

// addressIn finds the value of the first "ip" of a JSON object: the bytes between its
// quotes.
func addressIn(body []byte) (from, to int, ok bool) {
	dec := json.NewDecoder(bytes.NewReader(body))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return 0, 0, false
	}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return 0, 0, false
		}
		if key != "ip" {
			var skipped json.RawMessage
			if dec.Decode(&skipped) != nil {
				return 0, 0, false
			}
			continue
		}
		value, err := dec.Token()
		text, isString := value.(string)
		if err != nil || !isString {
			return 0, 0, false
		}
		end := int(dec.InputOffset())
		if !bytes.HasSuffix(body[:end], []byte(strconv.Quote(text))) { // written with escapes: no address
			return 0, 0, false
		}
		return end - 1 - len(text), end - 1, true
	}
	return 0, 0, false
}
