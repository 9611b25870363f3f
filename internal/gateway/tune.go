package gateway

import (
	"pasban/internal/config"
	"pasban/internal/gateway/waf"
)

// Tune exchanges the firewalls of the sites for those of c, which differs from
// the configuration in force in nothing else. Certificates, upstreams, limits
// and connections stay as they are; requests under way end under the firewall
// that they began under. Sites whose firewall does not differ keep it. On an
// error everything stays as it was. Not to be called beside Reload.
func (g *Gateway) Tune(c *config.Config) error {
	old := g.state.Load()
	st := &state{config: c, certificate: old.certificate, sites: old.sites, other: old.other, engines: map[string]*waf.Engine{},
		acme: old.acme, lists: old.lists, proxies: old.proxies, tracer: old.tracer, stop: old.stop}
	fresh := map[*site]*waf.Engine{}
	sites := c.Sites
	if _, ok := old.sites["*"]; !ok {
		sites = append(sites[:len(sites):len(sites)], old.other.conf)
	}
	for _, conf := range sites {
		s := old.sites[conf.Host]
		if s == nil {
			s = old.other
		}
		e, err := g.engine(conf, st, old)
		if err != nil {
			st.discard(old)
			return err
		}
		fresh[s] = e
	}
	for s, e := range fresh {
		s.guardBy(e)
	}
	old.continued = true
	g.use(st)
	return nil
}
