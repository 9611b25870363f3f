package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	coreruleset "github.com/corazawaf/coraza-coreruleset/v4"

	"pasban/internal/gateway/waf"
)

// Names of the peers.
const (
	plainProxy  = "plain Go reverse proxy"
	corazaAlone = "Coraza alone"
	modSecurity = "nginx with ModSecurity"
	gatewayOff  = "Pasban, firewall off"
	gatewayOn   = "Pasban, firewall on"
	firewall    = "Pasban's firewall alone"
	// The same twice more, for large bodies: what those leave in caches marks
	// neither the comparison with peers nor each other's.
	unstrained = "Pasban's firewall under ordinary bodies"
	strained   = "Pasban's firewall under hostile bodies"
)

// peers are all servers under test, by name, before one upstream.
type peers map[string]*peer

// stop ends all of them.
func (all peers) stop() {
	for _, p := range all {
		p.stop()
	}
}

// startPeers starts every server in dir. On error none is left.
func startPeers(ctx context.Context, dir string) (_ peers, err error) {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Write(answer)
	}))
	context.AfterFunc(ctx, upstream.Close)
	all := peers{}
	defer func() {
		if err != nil {
			all.stop()
		}
	}()
	add := func(p *peer, err error) error {
		if err != nil {
			return err
		}
		all[p.name] = p
		return p.await(ctx)
	}
	for name, kind := range map[string]string{plainProxy: childPlain, corazaAlone: childCoraza, firewall: childFirewall, unstrained: childFirewall, strained: childFirewall} {
		if err := add(startChild(dir, name, kind, upstream.URL)); err != nil {
			return nil, err
		}
	}
	if err := add(startNginx(dir, upstream.URL)); err != nil {
		return nil, err
	}
	binary, err := buildPasban(ctx, dir)
	if err != nil {
		return nil, err
	}
	for name, mode := range map[string]string{gatewayOff: "off", gatewayOn: "block"} {
		if err := add(startPasban(dir, binary, name, mode, upstream.URL)); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// buildPasban builds the binary as it is released.
func buildPasban(ctx context.Context, dir string) (string, error) {
	binary := filepath.Join(dir, "pasban")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", binary, "./cmd/pasban")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build pasban: %w\n%s", err, out)
	}
	return binary, nil
}

// answer is the upstream's fixed page of 60 bytes.
var answer = append(bytes.Repeat([]byte("ok "), 19), "ok\n"...)

func startChild(dir, name, kind, upstream string) (*peer, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	metrics, err := freeAddr()
	if err != nil {
		return nil, err
	}
	p, err := start(dir, name, exec.Command(self, "child", kind, upstream, addr, metrics))
	if err != nil {
		return nil, err
	}
	p.addr, p.metrics = addr, metrics
	return p, nil
}

// startPasban runs the binary as an operator does, with its journal, ledger
// and detection: what a block costs there is part of the figure.
func startPasban(dir, binary, name, mode, upstream string) (*peer, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	admin, err := freeAddr()
	if err != nil {
		return nil, err
	}
	own := filepath.Join(dir, "pasban-"+mode)
	if err := os.MkdirAll(own, 0o700); err != nil {
		return nil, err
	}
	config := filepath.Join(own, "pasban.yaml")
	text := fmt.Sprintf(`agency: {id: bench, name: {en: Bench, ur: پیمائش}}
listen: %s
admin: %s
tls: {mode: "off"}
limits: {body: %d, rate: {per_second: 1000000, burst: 1000000}}
sites:
  - host: "*"
    upstream: [%s]
    waf: {paranoia: 1, mode: "%s"}
    routes: [{match: "/", signin: none}]
`, addr, admin, bodyLimit, upstream, mode)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	p, err := start(dir, name, exec.Command(binary, "serve", "-c", config))
	if err != nil {
		return nil, err
	}
	p.addr, p.metrics = addr, admin
	return p, nil
}

const nginxModule = "/usr/lib/nginx/modules/ngx_http_modsecurity_module.so"

// startNginx runs Debian's nginx and ModSecurity with the rules of the Go
// module and the directives that Coraza gets.
func startNginx(dir, upstream string) (*peer, error) {
	binary, err := exec.LookPath("nginx")
	if err != nil {
		binary = "/usr/sbin/nginx" // not on everybody's path
	}
	for _, file := range []string{binary, nginxModule} {
		if _, err := os.Stat(file); err != nil {
			return nil, fmt.Errorf("%w: run test/install bench as root, or install nginx and libnginx-mod-http-modsecurity", err)
		}
	}
	own := filepath.Join(dir, "nginx")
	rules, err := modSecurityRules(own)
	if err != nil {
		return nil, err
	}
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	user := ""
	if os.Getuid() == 0 {
		user = "user root;"
	}
	config := filepath.Join(own, "nginx.conf")
	text := fmt.Sprintf(`load_module %[1]s;
%[2]s
daemon off; worker_processes auto; pid %[3]s/pid; error_log %[3]s/error.log error;
events { worker_connections 1024; }
http {
  access_log off; keepalive_requests 100000000;
  client_body_temp_path %[3]s/body; proxy_temp_path %[3]s/proxy; fastcgi_temp_path %[3]s/f; uwsgi_temp_path %[3]s/u; scgi_temp_path %[3]s/s;
  client_max_body_size %[4]d; client_body_buffer_size %[4]d; large_client_header_buffers 4 32k;
  upstream service { server %[5]s; keepalive 64; keepalive_requests 100000000; }
  modsecurity on; modsecurity_rules_file %[6]s;
  server {
    listen %[7]s;
    location / { proxy_pass http://service; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $http_host; proxy_set_header X-Forwarded-For $remote_addr; }
  }
}
`, nginxModule, user, own, bodyLimit, strings.TrimPrefix(upstream, "http://"), rules, addr)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	p, err := start(dir, modSecurity, exec.Command(binary, "-p", own, "-c", config, "-e", filepath.Join(own, "error.log")))
	if err != nil {
		return nil, err
	}
	p.addr = addr
	return p, nil
}

// modSecurityRules writes the files that Coraza reads from the Go module, and
// the directives that it is given, as ModSecurity takes them: the same text
// but for one directive that it does not have and an empty line after each
// directive, without which its parser takes a chained rule without actions and
// the next rule for one.
func modSecurityRules(dir string) (main string, err error) {
	rules := filepath.Join(dir, "rules")
	if err := os.MkdirAll(rules, 0o700); err != nil {
		return "", err
	}
	adapt := func(text []byte) string {
		var b strings.Builder
		for line := range strings.Lines(string(text)) {
			if strings.HasPrefix(line, "SecRequestBodyInMemoryLimit") {
				continue
			}
			b.WriteString(line)
			if !strings.HasSuffix(strings.TrimRight(line, "\n"), `\`) {
				b.WriteByte('\n')
			}
		}
		return b.String()
	}
	err = fs.WalkDir(coreruleset.FS, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := fs.ReadFile(coreruleset.FS, name)
		if err != nil {
			return err
		}
		if !strings.HasSuffix(name, ".data") {
			text = []byte(adapt(text))
		}
		to := filepath.Join(rules, strings.ReplaceAll(name, "@", ""))
		if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
			return err
		}
		return os.WriteFile(to, text, 0o600)
	})
	if err != nil {
		return "", err
	}
	directives, err := waf.Directives(waf.Options{Body: bodyLimit})
	if err != nil {
		return "", err
	}
	// The table that t:urlDecodeUni uses, as the package's own configuration has it.
	const table = "/etc/nginx/unicode.mapping"
	if _, err := os.Stat(table); err == nil {
		directives += "SecUnicodeMapFile " + table + " 20127\n"
	}
	main = filepath.Join(dir, "modsecurity.conf")
	return main, os.WriteFile(main, []byte(adapt([]byte(strings.ReplaceAll(directives, "Include @", "Include "+rules+"/")))), 0o600)
}
