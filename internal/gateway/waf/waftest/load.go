package waftest

import (
	"errors"
	"fmt"
	"runtime"
	"testing"
)

// Load is [Suite] for programs that are not tests.
func Load() ([]Case, error) {
	l := &loader{}
	var cases []Case
	done := make(chan struct{})
	go func() {
		defer close(done)
		cases = Suite(l)
	}()
	<-done
	return cases, l.err
}

// loader is as much of a test as Suite asks for.
type loader struct {
	testing.TB // nil: Suite calls nothing else
	err        error
}

func (l *loader) Helper() {}

// Fatal notes the error and ends the goroutine, as that of a test does.
func (l *loader) Fatal(args ...any) {
	l.err = errors.New(fmt.Sprint(args...))
	runtime.Goexit()
}
