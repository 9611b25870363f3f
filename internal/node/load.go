package node

import (
	"errors"

	"pasban/internal/access"
	"pasban/internal/config"
	"pasban/internal/detect"
	"pasban/internal/gateway"
	"pasban/internal/registry"
)

// Setup is everything that an operator's files say, read and checked together.
// Nothing in it has been opened yet.
type Setup struct {
	Config   *config.Config
	Services []*registry.Service
	Policies *access.Engine
	Rules    *detect.Engine
}

// Load reads pasban.yaml and every file that it names. The error lists all
// problems of all files (config.Problems), so that one run of `pasban check`
// shows everything there is to mend. The options are for the detection rules.
func Load(path string, options ...detect.Option) (*Setup, error) {
	cfg, err := config.Load(path)
	if err != nil {
		return nil, err
	}
	s := &Setup{Config: cfg}
	var problems config.Problems
	add := func(err error) error {
		if ps, ok := errors.AsType[config.Problems](err); ok {
			problems = append(problems, ps...)
			return nil
		}
		return err
	}
	var errs []error
	s.Services, err = registry.LoadServices(cfg.Services)
	errs = append(errs, add(err))
	s.Policies, err = access.Load(cfg.Policies)
	errs = append(errs, add(err))
	s.Rules, err = detect.Load(cfg.Rules, options...)
	errs = append(errs, add(err))
	errs = append(errs, add(gateway.Check(cfg)))
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if err := problems.Err(); err != nil {
		return nil, err
	}
	return s, nil
}
