package gateway

import (
	"crypto/tls"
	"time"

	"pasban"
)

// Modes of TLS, as the config names them.
const (
	tlsLocal = "local"
	tlsACME  = "acme"
	tlsFiles = "files"
	tlsOff   = "off"
)

// tlsOptions say how the listener identifies itself.
type tlsOptions struct {
	mode  string   // local: own authority under dir; files: cert and key; off: plain HTTP behind a balancer
	dir   string   // data/ca
	cert  string   // PEM file with the chain
	key   string   // PEM file
	hosts []string // names of the sites, for mode local
}

// certificates returns the source of certificates, nil for mode off.
func (t tlsOptions) certificates() (func(*tls.ClientHelloInfo) (*tls.Certificate, error), error) {
	switch t.mode {
	case tlsOff:
		return nil, nil
	case tlsFiles:
		pair, err := tls.LoadX509KeyPair(t.cert, t.key)
		if err != nil {
			return nil, &pasban.Error{Kind: pasban.Invalid, Msg: "the certificate is not usable", Where: t.cert, Err: err,
				Hint: "tls.cert is the chain and tls.key its key, both PEM"}
		}
		return func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &pair, nil }, nil
	case tlsLocal, "":
		ca, err := openCA(t.dir, t.hosts, time.Now())
		if err != nil {
			return nil, err
		}
		if _, err := ca.certificate(nil); err != nil {
			return nil, err
		}
		return ca.certificate, nil
	}
	return nil, &pasban.Error{Kind: pasban.Invalid, Msg: "TLS mode " + t.mode, Hint: "local, acme, files or off"}
}

// tlsConfig is TLS 1.3 alone, with the hybrid post-quantum key agreement
// X25519MLKEM768 preferred (draft-ietf-tls-ecdhe-mlkem).
func tlsConfig(certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)) *tls.Config {
	return &tls.Config{
		MinVersion:       tls.VersionTLS13,
		CurvePreferences: []tls.CurveID{tls.X25519MLKEM768, tls.SecP256r1MLKEM768, tls.X25519, tls.CurveP256},
		NextProtos:       []string{"h2", "http/1.1", acmeProtocol},
		GetCertificate:   certificate,
	}
}
