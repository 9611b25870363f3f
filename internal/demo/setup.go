package demo

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"text/template"

	"pasban/internal/durable"
)

//go:embed pasban.yaml.tmpl
var configTemplate string

// Stage is what the configuration of a demo's node is written from. All
// addresses are on loopback.
type Stage struct {
	Base          string // the node as visitors type it, https://localhost:port
	Listen        string // its public listener, host:port
	Admin         string // its health endpoint, host:port
	Upstream      string // the land registry, http://host:port
	OfficerBudget int    // how many different citizens an officer may look at in an hour
}

// WriteConfig writes the configuration of an agency's node into dir:
// pasban.yaml, and copies of the example services, policies and rules from
// examples. What is there already is overwritten; data is not touched.
func WriteConfig(dir string, stage Stage, examples fs.FS) error {
	t, err := template.New("pasban.yaml").Parse(configTemplate)
	if err != nil {
		return err
	}
	var config bytes.Buffer
	if err := t.Execute(&config, stage); err != nil {
		return err
	}
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for _, folder := range []string{"services", "policies", "rules"} {
		if err := copyFolder(filepath.Join(dir, folder), examples, folder); err != nil {
			return fmt.Errorf("copy the example %s: %w", folder, err)
		}
	}
	return durable.WriteFile(filepath.Join(dir, "pasban.yaml"), config.Bytes(), 0o600)
}

func copyFolder(to string, from fs.FS, folder string) error {
	return fs.WalkDir(from, folder, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(folder, name)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		if d.IsDir() {
			return os.MkdirAll(target, 0o700)
		}
		data, err := fs.ReadFile(from, name)
		if err != nil {
			return err
		}
		return os.WriteFile(target, data, 0o600)
	})
}

// Settings are what the demo's two processes must agree on; they are kept in
// DIR/demo.json.
type Settings struct {
	Seed     uint64 `json:"seed"`
	Citizens int    `json:"citizens"`
	Base     string `json:"base"` // the node's address as visitors type it
}

const (
	settingsFile = "demo.json"
	personasFile = "personas.json"
	logFile      = "node.log"
	legacyFile   = "landregistry.db"
)

// LoadSettings reads the settings that the demo wrote into dir.
func LoadSettings(dir string) (Settings, error) {
	var s Settings
	data, err := os.ReadFile(filepath.Join(dir, settingsFile))
	if err != nil {
		return s, fmt.Errorf("not a demo's directory: %w", err)
	}
	if err := json.Unmarshal(data, &s); err != nil {
		return s, fmt.Errorf("read the demo's settings: %w", err)
	}
	return s, nil
}

func (s Settings) write(dir string) error {
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(dir, settingsFile), data, 0o600)
}

// claim returns a loopback address at which nobody listens, the preferred one
// if there is one and it can be had, and what holds it for this demo. The node is away from its
// address until it has started and again while it is killed, so that asking who
// listens there is not enough for two demos on one machine: whoever holds the
// datagram port after it holds the address.
func claim(preferred string) (string, io.Closer, error) {
	addr, held, err := claimExactly(preferred)
	for range 100 {
		if err == nil {
			break
		}
		// Below the ports that outgoing connections get (Linux's
		// ip_local_port_range, and IANA's dynamic ports).
		addr, held, err = claimExactly(fmt.Sprintf("127.0.0.1:%d", 20000+rand.IntN(12000)))
	}
	return addr, held, err
}

func claimExactly(addr string) (string, io.Closer, error) {
	at, err := netip.ParseAddrPort(addr)
	if err != nil {
		return "", nil, err
	}
	held, err := net.ListenPacket("udp", netip.AddrPortFrom(at.Addr(), at.Port()+1).String())
	if err != nil {
		return "", nil, err
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return "", nil, errors.Join(err, held.Close())
	}
	return addr, held, l.Close()
}
