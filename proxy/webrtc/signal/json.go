package signal

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"srs-proxy/balancer"
	"srs-proxy/protocol/streamurl"
)

// errJSON says that a body is not what the JSON API takes.
var errJSON = errors.New("the body has to be a JSON object with the strings sdp and streamurl")

// serveJSON serves SRS's own API of before WHIP. The stream is in the body.
func (s *Server) serveJSON(ctx context.Context, w http.ResponseWriter, r *http.Request, path string) error {
	q, err := query(r)
	if err != nil {
		return err
	}
	body, err := s.readBody(w, r, maxJSON, errJSONTooLarge)
	if err != nil {
		return err
	}
	asked, err := parseAsked(body)
	if err != nil {
		return badRequest(err)
	}
	u, err := streamurl.ParseRTC(asked.streamURL)
	if err != nil {
		return badRequest(fmt.Errorf("streamurl: %w", err))
	}
	role := balancer.Play
	if path == "/rtc/v1/publish/" {
		role = balancer.Publish
	}
	return s.serveOffer(ctx, w, offer{
		request: forward(r, path, asked.body), sdp: []byte(asked.sdp), eip: eip(q), client: clientOf(r),
		stream: s.router.Stream(u), role: role,
		open: openJSON, seal: sealJSON,
	})
}

// asked is the body of a request.
type asked struct {
	sdp, streamURL string
	body           []byte // for the origin
}

// parseAsked reads a body. What goes to the origin is written anew, so that both read
// the same of names that occur twice, and without clientip: SRS believes that more
// than it does X-Forwarded-For.
func parseAsked(body []byte) (asked, error) {
	fields, err := object(body)
	if err != nil {
		return asked{}, errJSON
	}
	var a asked
	if json.Unmarshal(fields["sdp"], &a.sdp) != nil || json.Unmarshal(fields["streamurl"], &a.streamURL) != nil {
		return asked{}, errJSON
	}
	delete(fields, "clientip")
	a.body, err = marshal(fields)
	return a, err
}

// openJSON takes the description out of SRS's answer. A code is a refusal, whatever the
// status.
func openJSON(a answer) (description []byte, ok bool, err error) {
	fields, err := object(a.body)
	if err != nil {
		if a.status != http.StatusOK {
			return nil, false, nil
		}
		return nil, false, fmt.Errorf("%w: %w", errBadAnswer, err)
	}
	var code int
	if a.status != http.StatusOK || json.Unmarshal(fields["code"], &code) != nil || code != 0 {
		return nil, false, nil
	}
	var text string
	if err := json.Unmarshal(fields["sdp"], &text); err != nil {
		return nil, false, fmt.Errorf("%w: %w", errBadAnswer, err)
	}
	return []byte(text), true, nil
}

func sealJSON(a answer, description []byte) (answer, error) {
	fields, err := object(a.body)
	if err != nil {
		return a, fmt.Errorf("%w: %w", errBadAnswer, err)
	}
	if fields["sdp"], err = marshal(string(description)); err != nil {
		return a, err
	}
	a.body, err = marshal(fields)
	return a, err
}

// object reads a JSON object and leaves its values as they are.
func object(body []byte) (map[string]json.RawMessage, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(body, &fields); err != nil {
		return nil, fmt.Errorf("JSON: %w", err)
	}
	if fields == nil {
		return nil, errJSON // null
	}
	return fields, nil
}

// marshal writes JSON without the escapes of HTML, which SRS need not know.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, fmt.Errorf("JSON: %w", err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
