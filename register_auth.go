package main

import "srs-proxy/proxy/register"

// The existing proxy's way to ask for a token. Whatever their names say, they are about
// registration alone: its HTTP API asks for none.
const (
	authEnabled = "PROXY_HTTP_API_AUTH_ENABLED"
	authType    = "PROXY_HTTP_API_AUTH_TYPE"
	authToken   = "PROXY_HTTP_API_AUTH_TOKEN"
)

// readRegisterAuth reads the token of these variables, which is one more beside those of
// --register-token; nil if they ask for none. Who has set them must not be left without, so
// what is not understood is an error.
func readRegisterAuth(env func(string) (string, bool)) (register.Tokens, error) {
	switch v, _ := env(authEnabled); v {
	case "", "off":
		return nil, nil
	case "on":
	default:
		return nil, usageErrorf("variable %s: %q is neither on nor off", authEnabled, v)
	}
	if v, _ := env(authType); v != "bearer" {
		return nil, usageErrorf("variable %s: %q is unknown; with %s=on give bearer", authType, v, authEnabled)
	}
	v, _ := env(authToken)
	tokens, err := register.HeaderToken(v)
	if err != nil {
		return nil, usageErrorf("variable %s: the value %w", authToken, err)
	}
	return tokens, nil
}
