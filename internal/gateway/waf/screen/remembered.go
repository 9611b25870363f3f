package screen

import (
	"strconv"
	"strings"
	"sync"

	"github.com/corazawaf/coraza/v3/types/variables"
)

// Bounds of what is remembered in one phase.
const (
	mostKnown   = 4096
	longestKnow = 512 // bytes of a value
)

// remembered are values of which nothing has to be decided again: no condition
// of their plan holds. Names and headers come again with every request.
type remembered struct {
	mu     sync.RWMutex
	values map[known]struct{}
}

type known struct {
	plan  *plan
	value string
}

func (r *remembered) has(pl *plan, value string) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	_, ok := r.values[known{pl, value}]
	return ok
}

// met is has for what is of no plan.
func (r *remembered) met(value []byte) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	_, ok := r.values[known{value: string(value)}]
	return ok
}

func (r *remembered) add(pl *plan, value string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.values == nil || len(r.values) >= mostKnown {
		r.values = map[known]struct{}{}
	}
	r.values[known{pl, strings.Clone(value)}] = struct{}{}
}

// secret are headers whose values are somebody's own: they are not kept.
var secret = map[string]bool{
	"cookie": true, "authorization": true, "proxy-authorization": true, "referer": true, "set-cookie": true, "location": true,
	"x-api-key": true, "x-forwarded-for": true, "content-length": true,
}

// repeats reports whether a value of a variable that is cached may be kept.
func repeats(id variables.RuleVariable, key string) bool {
	if id != variables.RequestHeaders && id != variables.ResponseHeaders {
		return true
	}
	return !secret[strings.ToLower(key)]
}

func itoa(n int) string { return strconv.Itoa(n) }
