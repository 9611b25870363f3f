package demo

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"pasban/internal/config"
)

func TestWriteConfig(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "demo")
	files := fstest.MapFS{
		"services/a.yaml":   {Data: []byte("a")},
		"policies/a.cedar":  {Data: []byte("b")},
		"rules/web/sql.yml": {Data: []byte("c")},
	}
	at := Stage{Base: "https://localhost:8443", Listen: "127.0.0.1:8443", Admin: "127.0.0.1:9443", Upstream: "http://127.0.0.1:9000", OfficerBudget: 15}
	for range 2 {
		if err := WriteConfig(dir, at, files); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range files {
		if data, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(data) != string(want.Data) {
			t.Errorf("%s: %q, %v", name, data, err)
		}
	}
	c, err := config.Load(filepath.Join(dir, "pasban.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if c.Data != filepath.Join(dir, "data") || len(c.Sites) != 1 || len(c.Sites[0].Routes) < 10 || c.Access.Budgets[0].Subjects != 15 {
		t.Errorf("%+v", c)
	}
	info, err := os.Stat(filepath.Join(dir, "pasban.yaml"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if err := WriteConfig(dir, at, fstest.MapFS{}); err == nil {
		t.Error("wrote a configuration without services, policies and rules")
	}
}

func TestSettings(t *testing.T) {
	dir := t.TempDir()
	want := Settings{Seed: 7, Citizens: 300, Base: "https://localhost:8443"}
	if err := want.write(dir); err != nil {
		t.Fatal(err)
	}
	if got, err := LoadSettings(dir); err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
	if err := os.WriteFile(filepath.Join(dir, settingsFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadSettings(dir); err == nil {
		t.Error("read a broken file")
	}
	if _, err := LoadSettings(t.TempDir()); err == nil || !strings.Contains(err.Error(), "not a demo's directory") {
		t.Errorf("another directory: %v", err)
	}
}

func TestClaim(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	taken := l.Addr().String()
	first, held, err := claim(taken)
	if err != nil || first == taken || !strings.HasPrefix(first, "127.0.0.1:") {
		t.Fatalf("somebody listens there: %s, %v", first, err)
	}
	second, other, err := claim(first)
	if err != nil || second == first {
		t.Fatalf("another demo's node is away from there: %s, %v", second, err)
	}
	if err := errors.Join(held.Close(), other.Close()); err != nil {
		t.Fatal(err)
	}
	again, held, err := claim(first)
	if err != nil || again != first {
		t.Fatalf("free again: %s, %v", again, err)
	}
	held.Close()
}
