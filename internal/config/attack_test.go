package config_test

import (
	"strings"
	"testing"
	"time"
)

func TestAttackAndQueue(t *testing.T) {
	site := func(attack, queue string) string {
		return minimal + "sites:\n  - host: land.example\n    upstream: [http://127.0.0.1:9000]\n    attack: {" + attack + "}\n    routes:\n      - {match: \"GET /\", signin: none, queue: {" + queue + "}}\n"
	}
	c, problems := read(t, site(`tokens: ["synthetic-token-0123456789"]`, "admit: 0.5"))
	if problems != nil {
		t.Fatal(problems)
	}
	s := c.Sites[0]
	if s.Attack.Start != "auto" || s.Attack.Tokens[0].Value() != "synthetic-token-0123456789" || s.Routes[0].Queue.Admit != 0.5 || s.Routes[0].Queue.Stay != 10*time.Minute {
		t.Errorf("site: %+v, queue %+v", s.Attack, s.Routes[0].Queue)
	}
	c, problems = read(t, withSite(`{match: "GET /", signin: none}`))
	if problems != nil || c.Sites[0].Attack.Start != "auto" || c.Sites[0].Routes[0].Queue != nil {
		t.Errorf("without the keys: %+v, %v", c.Sites[0], problems)
	}
	_, problems = read(t, withSite(`{match: "POST /", signin: none, queue: {admit: 1}}`))
	if problems == nil || !strings.Contains(problems.Error(), "takes POST only") {
		t.Errorf("a queue that nobody can wait in: %v", problems)
	}
	for _, bad := range []struct{ attack, queue, want string }{
		{"start: never", "admit: 1", "sites[0].attack.start"},
		{`tokens: [short]`, "admit: 1", "sites[0].attack.tokens[0]: a token has at least 20"},
		{`tokens: ["synthetic token 0123456789"]`, "admit: 1", "cannot be sent in a header"},
		{`tokens: [synthetic-token-0123456789, synthetic-token-0123456789]`, "admit: 1", "the same token twice"},
		{"", "stay: 1m", "admit"},
		{"", "admit: 0", "queue.admit"},
		{"", "admit: 100000", "queue.admit"},
		{"", "admit: 1, stay: 1s", "queue.stay"},
		{"", "admit: 1, per: 1s", "per"},
	} {
		_, problems := read(t, site(bad.attack, bad.queue))
		if text := problems.Error(); problems == nil || !strings.Contains(text, bad.want) || strings.Contains(text, "synthetic token") {
			t.Errorf("attack %q, queue %q: %v, want %q", bad.attack, bad.queue, problems, bad.want)
		}
	}
}
