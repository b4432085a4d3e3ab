package main

import (
	"errors"
	"io/fs"
	"time"

	"srs-proxy/proxy/certs"
)

// checkCertificate: that of RTMPS and HTTPS can be used, and for how long.
func checkCertificate(f *facts) []finding {
	pair := f.cfg.TLS
	if pair.CertFile == "" {
		return nil
	}
	cert, err := pair.Load()
	if errors.Is(err, fs.ErrPermission) {
		return []finding{fail("certificate", "%v; the user who runs up has to be able to read it", err).fixedBy("ls -l %s %s", pair.CertFile, pair.KeyFile)}
	}
	if err != nil {
		return []finding{fail("certificate", "%v", err)}
	}
	soon, err := certs.Expiry(cert.Leaf, time.Now())
	switch {
	case soon:
		return []finding{warn("certificate", "%s %v; renew it, a running srs-proxy takes it up by itself", pair.CertFile, err)}
	case err != nil:
		return []finding{fail("certificate", "%s %v", pair.CertFile, err)}
	}
	return []finding{ok("certificate", "%s is good until %s", pair.CertFile, cert.Leaf.NotAfter.UTC().Format(time.DateOnly))}
}
