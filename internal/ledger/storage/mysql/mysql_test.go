package mysql_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pasban"
	"pasban/internal/ledger"
	"pasban/internal/ledger/storage/mysql"
	"pasban/internal/ledger/storage/storagetest"
	"pasban/internal/ledger/tiles"
)

var _ ledger.Storage = (*mysql.Log)(nil)

func open(t testing.TB, at mysql.Server) *mysql.Log {
	t.Helper()
	l, err := mysql.New(at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func TestContract(t *testing.T) {
	storagetest.RunTests(t, func(t *testing.T) storagetest.Engine {
		at, gate := storagetest.MySQL(t)
		return storagetest.Engine{Gate: gate, Open: func(t testing.TB) ledger.Storage { return open(t, at) }}
	})
}

// Whoever loses its connection loses its claim, and notices before it adds
// anything; it has it again when the other one is gone.
func TestClaimEndsWithItsConnection(t *testing.T) {
	at, gate := storagetest.MySQL(t)
	first, second := open(t, at), open(t, at)
	if err := first.Claim(t.Context()); err != nil {
		t.Fatal(err)
	}
	gate.Cut()
	gate.Open()
	for limit := time.Now().Add(time.Minute); ; { // the server sees the end in its own time
		err := second.Claim(t.Context())
		if err == nil {
			break
		}
		if pasban.KindOf(err) != pasban.Conflict || time.Now().After(limit) {
			t.Fatal(err)
		}
	}
	if err := first.Ready(t.Context()); pasban.KindOf(err) != pasban.Conflict {
		t.Errorf("ready without a claim: %v", err)
	}
	if err := second.Close(); err != nil {
		t.Error(err)
	}
	if err := first.Ready(t.Context()); err != nil {
		t.Error(err)
	}
}

// A clock that was ahead when the driver published keeps nothing waiting.
func TestSetBack(t *testing.T) {
	at, _ := storagetest.MySQL(t)
	l := open(t, at)
	if err := l.Claim(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := l.WriteFile(t.Context(), tiles.Checkpoint, []byte("one")); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	ahead := now.Add(24 * time.Hour).Truncate(time.Millisecond)
	storagetest.Exec(t, at, fmt.Sprintf("UPDATE `Checkpoint` SET `published_at` = %d", ahead.UnixMilli()))
	if was, moved, err := l.SetBack(t.Context(), now.Add(time.Second), now); err != nil || !moved || !was.Equal(ahead) {
		t.Errorf("set back from %s: %v, %v", was, moved, err)
	}
	if _, moved, err := l.SetBack(t.Context(), now.Add(time.Second), now); err != nil || moved {
		t.Errorf("set back twice: %v", err)
	}
}

// A password that is wrong is not told to anyone.
func TestWrongPassword(t *testing.T) {
	at, _ := storagetest.MySQL(t)
	at.Password = "hunter2-of-the-tests"
	err := open(t, at).Claim(t.Context())
	if pasban.KindOf(err) != pasban.Unavailable || !strings.Contains(err.Error(), "Access denied") || strings.Contains(err.Error(), at.Password) {
		t.Error(err)
	}
}
