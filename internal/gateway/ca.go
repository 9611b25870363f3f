package gateway

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"pasban"
	"pasban/internal/durable"
)

// How long the local authority's certificates live, and when they are renewed.
const (
	rootLife  = 10 * 365 * 24 * time.Hour
	rootRenew = 180 * 24 * time.Hour // before a leaf would outlive it
	leafLife  = 90 * 24 * time.Hour
	leafRenew = 30 * 24 * time.Hour
	clockSkew = time.Hour
)

// localCA is Pasban's own certificate authority for machines that have no
// other: a root (ca/root.pem, ca/root.key) that may sign nothing but server
// certificates for the names it was made for, and a leaf that lives in memory
// and is renewed a month before it ends.
type localCA struct {
	names []string // DNS names, sorted
	addrs []net.IP

	root *x509.Certificate
	key  *ecdsa.PrivateKey

	mu   sync.Mutex // covers leaf
	leaf *tls.Certificate
}

// openCA loads the authority from dir, or makes one. A root that does not
// cover all names (a site was added) or that ends soon is replaced; the old
// one is kept beside it, for those who still trust it.
func openCA(dir string, hosts []string, now time.Time) (*localCA, error) {
	ca := &localCA{names: []string{"localhost"}, addrs: []net.IP{net.IPv4(127, 0, 0, 1).To4(), net.IPv6loopback}}
	for _, h := range hosts {
		if a, err := netip.ParseAddr(strings.Trim(h, "[]")); err == nil {
			ca.addrs = append(ca.addrs, a.Unmap().AsSlice())
		} else if h != "" && h != "*" {
			ca.names = append(ca.names, strings.ToLower(h))
		}
	}
	slices.Sort(ca.names)
	ca.names = slices.Compact(ca.names)
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	err := ca.load(dir)
	if err == nil && ca.covers() && now.Before(ca.root.NotAfter.Add(-rootRenew)) {
		return ca, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, &pasban.Error{Kind: pasban.Unavailable, Msg: "the local certificate authority is not readable", Where: dir, Err: err,
			Hint: "move the directory away to have a new one made"}
	}
	if err := ca.make(dir, now); err != nil {
		return nil, &pasban.Error{Kind: pasban.Unavailable, Msg: "the local certificate authority cannot be made", Where: dir, Err: err}
	}
	return ca, nil
}

func (ca *localCA) load(dir string) error {
	keyFile := filepath.Join(dir, "root.key")
	certPEM, err := os.ReadFile(filepath.Join(dir, "root.pem"))
	if err != nil {
		return err
	}
	if err := durable.CheckMode(keyFile); err != nil {
		return err
	}
	keyPEM, err := os.ReadFile(keyFile)
	if err != nil {
		return err
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return err
	}
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		return errors.New("root.key is not an ECDSA key")
	}
	ca.root, ca.key = pair.Leaf, key
	return nil
}

// covers reports whether the root may sign for every name and address.
func (ca *localCA) covers() bool {
	for _, n := range ca.names {
		if !slices.Contains(ca.root.PermittedDNSDomains, n) {
			return false
		}
	}
	for _, a := range ca.addrs {
		if !slices.ContainsFunc(ca.root.PermittedIPRanges, func(n *net.IPNet) bool { return n.Contains(a) }) {
			return false
		}
	}
	return true
}

// make draws a new root for the names and writes it.
func (ca *localCA) make(dir string, now time.Time) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		Subject:      pkix.Name{CommonName: "Pasban local authority " + now.UTC().Format("2006-01-02")},
		NotBefore:    now.Add(-clockSkew),
		NotAfter:     now.Add(rootLife),
		KeyUsage:     x509.KeyUsageCertSign,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IsCA:         true,
		MaxPathLen:   0,
		SerialNumber: nil, // drawn by CreateCertificate

		BasicConstraintsValid:       true,
		MaxPathLenZero:              true,
		PermittedDNSDomainsCritical: true,
		PermittedDNSDomains:         ca.names,
	}
	for _, a := range ca.addrs {
		template.PermittedIPRanges = append(template.PermittedIPRanges, &net.IPNet{IP: a, Mask: net.CIDRMask(8*len(a), 8*len(a))})
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	certFile, keyFile := filepath.Join(dir, "root.pem"), filepath.Join(dir, "root.key")
	if old, err := os.ReadFile(certFile); err == nil {
		if err := durable.WriteFile(filepath.Join(dir, "root-before-"+now.UTC().Format("20060102T150405")+".pem"), old, 0o600); err != nil {
			return err
		}
	}
	// A crash between the two leaves a pair that does not match; removing the
	// certificate first makes that a missing one, which is made again.
	if err := os.Remove(certFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := durable.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600); err != nil {
		return err
	}
	if err := durable.WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		return err
	}
	ca.key = key
	ca.root, err = x509.ParseCertificate(der)
	return err
}

// certificate returns the leaf, renewed if it ends within leafRenew.
func (ca *localCA) certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	now := time.Now()
	if ca.leaf != nil && now.Before(ca.leaf.Leaf.NotAfter.Add(-leafRenew)) {
		return ca.leaf, nil
	}
	leaf, err := ca.issue(now)
	if err != nil {
		return nil, &pasban.Error{Kind: pasban.Unavailable, Msg: "no certificate could be issued", Err: err}
	}
	ca.leaf = leaf
	return leaf, nil
}

func (ca *localCA) issue(now time.Time) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: "Pasban"},
		NotBefore:   now.Add(-clockSkew),
		NotAfter:    now.Add(leafLife),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:    ca.names,
		IPAddresses: ca.addrs,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.root, &key.PublicKey, ca.key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}
