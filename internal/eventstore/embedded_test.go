package eventstore_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"pasban/internal/eventstore"
	"pasban/internal/eventstore/engine"
	"pasban/internal/eventstore/eventstoretest"
)

// TestMain lets this test binary be the engine: a process of its own, as in
// service.
func TestMain(m *testing.M) {
	if eventstore.InEngine() {
		os.Exit(engine.Main(os.Args[1:]))
	}
	if os.Getenv(serverEnv) != "" {
		os.Exit(victoriaLogs())
	}
	os.Exit(m.Run())
}

func openEmbedded(t testing.TB, dir string, tenant eventstore.Tenant) *eventstore.Embedded {
	t.Helper()
	return openFlushing(t, dir, tenant, time.Second)
}

func openFlushing(t testing.TB, dir string, tenant eventstore.Tenant, flush time.Duration) *eventstore.Embedded {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s, err := eventstore.OpenEmbedded(eventstore.EmbeddedOptions{
		Dir: filepath.Join(dir, "events"), Command: []string{exe}, Tenant: tenant,
		Window: &eventstore.Window{Retention: eventstoretest.Retention}, Flush: flush,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := s.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestEmbedded(t *testing.T) {
	t.Parallel()
	eventstoretest.RunTests(t, func(t *testing.T, tenant eventstore.Tenant) eventstore.Store {
		return openEmbedded(t, t.TempDir(), tenant)
	})
}
