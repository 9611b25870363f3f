package eventstore_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"pasban/internal/eventstore"
	"pasban/internal/eventstore/eventstoretest"
)

func TestMain(m *testing.M) {
	if os.Getenv(serverEnv) != "" {
		os.Exit(victoriaLogs())
	}
	eventstoretest.Main(m)
}

func openEmbedded(t testing.TB, dir string, tenant eventstore.Tenant) *eventstore.Embedded {
	t.Helper()
	return openFlushing(t, dir, tenant, time.Second)
}

func openFlushing(t testing.TB, dir string, tenant eventstore.Tenant, flush time.Duration) *eventstore.Embedded {
	t.Helper()
	return eventstoretest.Open(t, eventstore.EmbeddedOptions{Dir: filepath.Join(dir, "events"), Tenant: tenant,
		Window: &eventstore.Window{Retention: eventstoretest.Retention}, Flush: flush})
}

func TestEmbedded(t *testing.T) {
	t.Parallel()
	eventstoretest.RunTests(t, func(t *testing.T, tenant eventstore.Tenant) eventstore.Store {
		return openEmbedded(t, t.TempDir(), tenant)
	})
}
