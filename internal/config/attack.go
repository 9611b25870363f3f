package config

import (
	"fmt"
	"net/http"
	"slices"
	"time"
)

// minToken is how long a token is at least: it is all that a program shows.
const minToken = 20

func (k *checker) attack(path string, a Attack) {
	for i, t := range a.Tokens {
		field := fmt.Sprintf("%s.tokens[%d]", path, i)
		switch {
		case len(t.Value()) < minToken:
			k.bad(field, "such as 32 random letters and digits", "a token has at least %d characters", minToken)
		case slices.ContainsFunc([]byte(t.Value()), func(c byte) bool { return c <= ' ' || c > '~' }):
			k.bad(field, "letters, digits and signs of ASCII, without spaces", "a token that cannot be sent in a header")
		case slices.Contains(a.Tokens[:i], t):
			k.bad(field, "", "the same token twice")
		}
	}
}

func (k *checker) queue(path string, r *Route) {
	q := r.Queue
	if q == nil {
		return
	}
	if m := r.Method(); m != "" && m != http.MethodGet {
		k.bad(path, "begin match with GET, or name no method: then it bounds what is sent there too", "nobody can wait for a route that takes %s only", m)
	}
	if k.doc.Has(path+".admit") && (q.Admit < 0.01 || q.Admit > 10000) {
		k.bad(path+".admit", "visitors a second, from 0.01 to 10000", "%v is out of range", q.Admit)
	}
	if q.Stay < 10*time.Second || q.Stay > 24*time.Hour {
		k.bad(path+".stay", "10s to 24h", "%s is out of range", q.Stay)
	}
}
