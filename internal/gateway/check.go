package gateway

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"

	"pasban"
	"pasban/internal/config"
	"pasban/internal/gateway/flood"
	"pasban/internal/gateway/waf"
)

// Check finds what New would refuse in a configuration, and what config.Load
// cannot see: rules of firewalls that do not compile, certificates that do not
// fit their keys. It opens nothing. Its error is config.Problems.
func Check(c *config.Config) error {
	var problems config.Problems
	if c.TLS.Mode == tlsFiles {
		if _, err := tls.LoadX509KeyPair(c.TLS.Cert, c.TLS.Key); err != nil {
			problems = append(problems, config.Problem{File: c.File, Field: "tls.cert", Msg: err.Error(),
				Hint: "tls.cert is the chain and tls.key its key, both PEM"})
		}
	}
	if _, err := flood.LoadLists(listsOf(c)); err != nil {
		problems = append(problems, config.Problem{File: c.File, Field: "limits", Msg: err.Error()})
	}
	compiled := map[string]bool{}
	for i, s := range c.Sites {
		for j, r := range s.Routes {
			if err := checkRoute(r); err != nil {
				problems = append(problems, config.Problem{File: c.File, Field: fmt.Sprintf("sites[%d].routes[%d].subject", i, j), Msg: err.Msg, Hint: err.Hint})
			}
		}
		if s.WAF.Mode == "off" {
			continue
		}
		o := wafOptions(s, c)
		key, err := waf.Directives(o)
		if err == nil && !compiled[key] {
			compiled[key] = true
			var e *waf.Engine
			if e, err = waf.New(o); err == nil {
				err = e.Close()
			}
		}
		if err != nil {
			problems = append(problems, wafProblem(c, i, err))
			continue
		}
		for _, msg := range waf.Unknown(o) {
			problems = append(problems, config.Problem{File: c.File, Field: fmt.Sprintf("sites[%d].waf.exclusions", i), Msg: msg})
		}
	}
	return problems.Err()
}

// wafProblem says where a firewall's rules are wrong: in a file of own rules,
// or else at the site.
func wafProblem(c *config.Config, site int, err error) config.Problem {
	if e, ok := errors.AsType[*waf.RuleError](err); ok {
		return config.Problem{File: e.File, Line: e.Line, Msg: e.Error()}
	}
	return config.Problem{File: c.File, Field: fmt.Sprintf("sites[%d].waf", site), Msg: err.Error()}
}

// checkRoute refuses a route that could not keep its promise.
func checkRoute(r config.Route) *pasban.Error {
	if from, _ := r.SubjectSource(); from == config.FromResponse && r.Method() != http.MethodGet && r.Method() != http.MethodHead {
		// The service would have changed something before anything is decided.
		return &pasban.Error{Kind: pasban.Invalid, Msg: "subject: response is for routes that only look", Where: r.Match,
			Hint: "begin match with GET, or name the citizen with form.NAME"}
	}
	return nil
}

// wafOptions are a site's firewall as the config describes it.
func wafOptions(s config.Site, c *config.Config) waf.Options {
	w := s.WAF
	o := waf.Options{Detect: w.Mode == "detect", Paranoia: w.Paranoia, Letters: w.Letters,
		Before: w.Custom, After: w.CustomAfter, Body: c.Limits.Body,
		Exclusions: s.Exclusions(), Markers: w.TestMarkers}
	for _, r := range s.Routes {
		if r.WAF.Mode == "detect" {
			o.Watched = append(o.Watched, r.Match)
		}
	}
	return o
}
