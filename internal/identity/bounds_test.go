package identity

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// TestChallengesAreBounded asks for more challenges than are kept.
func TestChallengesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c ceremonies
		c.put("a patient visitor's", &ceremony{client: "192.0.2.1"})
		for n := range 3 * maxPerClient {
			c.put(fmt.Sprint("flood ", n), &ceremony{client: "192.0.2.66"})
		}
		if len(c.open) != maxPerClient+1 || c.order.Len() != len(c.open) {
			t.Errorf("%d open, %d in order; one client has at most %d", len(c.open), c.order.Len(), maxPerClient)
		}
		if c.take("flood 0") != nil || c.take(fmt.Sprint("flood ", 3*maxPerClient-1)) == nil {
			t.Error("the client's oldest is not the one that ended")
		}
		if c.take("a patient visitor's") == nil || c.take("a patient visitor's") != nil {
			t.Error("another client's challenge is not there once")
		}
		for n := range maxCeremonies + 10 {
			c.put(fmt.Sprint("many ", n), &ceremony{client: fmt.Sprint("client ", n)})
		}
		if len(c.open) != maxCeremonies || len(c.clients) != maxCeremonies || c.take("many 0") != nil {
			t.Errorf("%d open of %d clients", len(c.open), len(c.clients))
		}
		time.Sleep(ceremonyLife)
		c.put("later", &ceremony{client: "192.0.2.1"})
		if len(c.open) != 1 || len(c.clients) != 1 || c.order.Len() != 1 {
			t.Errorf("%d open after all others are over", len(c.open))
		}
	})
}

// TestClientsAreForgotten lets more clients fail than are remembered.
func TestClientsAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := attempts{burst: 2}
		for n := range maxClients {
			a.take(fmt.Sprint("client ", n))
		}
		time.Sleep(2 * attemptEvery)
		for range 2 {
			a.take("busy")
		}
		if len(a.clients) != 1 {
			t.Errorf("%d clients remembered, want the one that has no attempt left", len(a.clients))
		}
		if ok, first := a.take("busy"); ok || !first {
			t.Errorf("take = %v, %v", ok, first)
		}
		for n := range maxClients {
			a.take(fmt.Sprint("client ", n))
		}
		if len(a.clients) > maxClients {
			t.Errorf("%d clients remembered, at most %d", len(a.clients), maxClients)
		}
	})
}
