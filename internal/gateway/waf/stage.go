package waf

import (
	"io"
	"strconv"

	"github.com/corazawaf/coraza/v3/collection"
	"github.com/corazawaf/coraza/v3/experimental"
	"github.com/corazawaf/coraza/v3/experimental/plugins/plugintypes"
	"github.com/corazawaf/coraza/v3/types"
	"github.com/corazawaf/coraza/v3/types/variables"

	"pasban"
)

// Most requests match nothing. An inspection therefore begins with a light
// transaction, which has Coraza read the request and a screen decide the rules
// (package screen). As long as it stays clean, its outcome is that of the whole
// rule set. When it does not, the whole rule set is led through everything that
// the light one has seen, and its verdict alone counts.

// stage is how far a transaction has been led.
type stage uint8

const (
	requestHeaders  stage = iota + 1 // phase 1
	requestBody                      // phase 2
	responseHeaders                  // phase 3
	responseWritten                  // what is held back of the body has been taken
	responseBody                     // phase 4
	logging                          // phase 5
)

// lead leads the transaction through the next stage. The request, the answer
// and what is written of it are in the transaction already.
func (in *inspection) lead(to stage) (*types.Interruption, error) {
	return in.settle(to, func() (*types.Interruption, error) {
		switch to {
		case requestHeaders:
			return in.tx.ProcessRequestHeaders(), nil
		case requestBody:
			return in.tx.ProcessRequestBody()
		case responseBody:
			return in.tx.ProcessResponseBody()
		case logging:
			in.tx.ProcessLogging()
		}
		return nil, nil
	})
}

// settle runs a stage, and has the whole rule set judge if the light one
// cannot.
func (in *inspection) settle(to stage, run func() (*types.Interruption, error)) (*types.Interruption, error) {
	in.stage = to
	in.answered = in.answered || to == responseBody
	it, err := run()
	if err != nil || !in.light || in.screen.Clean(in.tx) {
		return it, err
	}
	in.first, in.light = in.tx, false
	in.tx = in.waf.NewTransactionWithOptions(experimental.Options{ID: in.first.ID(), Context: in.r.Context()})
	in.screen.Pass(in.first, in.tx)
	seen, ok := in.first.(plugintypes.TransactionState)
	if !ok {
		return nil, &pasban.Error{Kind: pasban.Unavailable, Msg: "this Coraza does not show the state of transactions"}
	}
	return in.again(seen)
}

// again leads the transaction through what another one has seen.
func (in *inspection) again(seen plugintypes.TransactionState) (*types.Interruption, error) {
	tx := in.tx
	setRoute(tx, in.route)
	port, _ := strconv.Atoi(text(seen, variables.RemotePort))
	tx.ProcessConnection(text(seen, variables.RemoteAddr), port, "", 0)
	tx.ProcessURI(text(seen, variables.RequestURIRaw), text(seen, variables.RequestMethod), text(seen, variables.RequestProtocol))
	for _, h := range seen.Collection(variables.RequestHeaders).FindAll() {
		tx.AddRequestHeader(h.Key(), h.Value())
	}
	if name := text(seen, variables.ServerName); name != "" {
		tx.SetServerName(name)
	}
	if it := tx.ProcessRequestHeaders(); it != nil || in.stage < requestBody {
		return it, nil
	}
	if in.body != nil {
		reader, err := in.first.RequestBodyReader()
		if err != nil {
			return nil, err
		}
		if it, _, err := take(tx, &granted{Reader: reader, in: in, n: in.taken}); it != nil || err != nil {
			return it, err
		}
	}
	if it, err := tx.ProcessRequestBody(); it != nil || err != nil || in.stage < responseHeaders {
		return it, err
	}
	return in.answerAgain(seen)
}

// answerAgain is again for the answer.
func (in *inspection) answerAgain(seen plugintypes.TransactionState) (*types.Interruption, error) {
	tx := in.tx
	if status, err := strconv.Atoi(text(seen, variables.ResponseStatus)); err == nil {
		for _, h := range seen.Collection(variables.ResponseHeaders).FindAll() {
			tx.AddResponseHeader(h.Key(), h.Value())
		}
		if it := tx.ProcessResponseHeaders(status, text(seen, variables.ResponseProtocol)); it != nil {
			return it, nil
		}
		reader, err := in.first.ResponseBodyReader()
		if err != nil {
			return nil, err
		}
		if body, err := io.ReadAll(reader); err != nil {
			return nil, err
		} else if len(body) > 0 {
			if it, _, err := tx.WriteResponseBody(body); it != nil || err != nil {
				return it, err
			}
		}
		if in.answered {
			if it, err := tx.ProcessResponseBody(); it != nil || err != nil {
				return it, err
			}
		}
	}
	if in.stage == logging {
		tx.ProcessLogging()
	}
	return nil, nil
}

// text is the value of a variable that has one.
func text(tx plugintypes.TransactionState, v variables.RuleVariable) string {
	if single, ok := tx.Collection(v).(collection.Single); ok {
		return single.Get()
	}
	return ""
}
