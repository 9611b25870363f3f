package config_test

import (
	"strings"
	"testing"
	"time"

	"pasban/internal/config"
)

// withKeys adds keys to the only site.
func withKeys(keys string) string {
	return strings.Replace(withSite(`{match: "GET /", signin: none}`), "    routes:", keys+"\n    routes:", 1)
}

func TestProxying(t *testing.T) {
	c, problems := read(t, "proxies: [10.0.0.5, 10.1.0.0/16]\nclient_address: forwarded\ntraces: {otlp: 'http://127.0.0.1:4318'}\n"+
		withKeys("    balance: client\n    health: {path: /up}"))
	if problems != nil {
		t.Fatal(problems)
	}
	if h := *c.Sites[0].Health; h != (config.Health{Path: "/up", Interval: 10 * time.Second, Timeout: 2 * time.Second, Status: 200, Rise: 2, Fall: 3}) {
		t.Errorf("health: %+v", h)
	}
	if p := c.TrustedProxies(); len(p) != 2 || p[0].String() != "10.0.0.5/32" || p[1].String() != "10.1.0.0/16" {
		t.Errorf("proxies: %v", p)
	}
	if c.AccessLog != "combined" || c.Traces.Sample != 0.01 || c.Sites[0].Balance != "client" {
		t.Errorf("defaults: %+v", c)
	}
	for _, row := range []struct{ text, want string }{
		{minimal + "proxies: [10.0.0.0/8, x]", `proxies[1]: not a network: "x"`},
		{minimal + "proxies: [0.0.0.0/0]", "every visitor would be trusted"},
		{minimal + "client_address: forwarded", "nobody is trusted to say it"},
		{minimal + "client_address: x-real-ip\nproxies: [10.0.0.1]", "client_address"},
		{minimal + "access_log: apache", "access_log"},
		{minimal + "traces: {sample: 1}", `missing key "otlp"`},
		{minimal + "traces: {otlp: 'grpc://x'}", "not the address of a collector"},
		{withKeys("    balance: fastest"), "balance"},
		{withKeys("    health: {path: up}"), "not a path"},
		{withKeys("    health: {path: //up}"), "not a path"},
		{withKeys("    health: {path: /up, interval: 1ms}"), "health.interval: 1ms is out of range"},
		{withKeys("    health: {path: /up, timeout: 1h}"), "health.timeout: 1h0m0s is out of range"},
		{withKeys("    health: {path: /up, status: 299}"), "not an HTTP status"},
		{withKeys("    upstream_tls: {server_name: x}"), "no upstream speaks TLS"},
		{strings.Replace(withKeys("    upstream_tls: {ca: nowhere.pem}"), "http:", "https:", 1), "no such file"},
		{strings.Replace(withSite(`{match: "GET /", signin: none}`), "[http://127.0.0.1:9000]", "[http://a:1, http://a:1]", 1), "listed twice"},
	} {
		if _, problems := read(t, row.text); problems == nil || !strings.Contains(problems.Error(), row.want) {
			t.Errorf("%s\ngot  %v\nwant … %s …", row.text, problems, row.want)
		}
	}
}
