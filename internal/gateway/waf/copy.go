package waf

import (
	"cmp"
	"io"
	"strconv"
	"strings"
	"sync"

	"github.com/corazawaf/coraza/v3/experimental/plugins"
	"github.com/corazawaf/coraza/v3/experimental/plugins/plugintypes"
	"github.com/corazawaf/coraza/v3/types"
)

// Bodies pass through space that is lent. Coraza's own copying and io.Copy take
// a new 32 KiB for each: for a page of sixty bytes that is most of what a
// request leaves to the garbage collector.

type space struct {
	bytes [32 << 10]byte
	used  int // of them
}

var spaces = sync.Pool{New: func() any { return new(space) }}

func borrow() *space { return spaces.Get().(*space) }

// giveBack takes no part of a body back with the space.
func giveBack(s *space) {
	clear(s.bytes[:s.used])
	s.used = 0
	spaces.Put(s)
}

// each hands over a body part by part, through lent space, to its end or until
// part returns io.EOF.
func each(body io.Reader, part func([]byte) error) error {
	s := borrow()
	defer giveBack(s)
	for {
		n, err := body.Read(s.bytes[:])
		s.used = max(s.used, n)
		if n > 0 {
			err = cmp.Or(part(s.bytes[:n]), err)
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// pour is io.Copy through lent space.
func pour(to io.Writer, from io.Reader) error {
	return each(from, func(p []byte) error {
		_, err := to.Write(p)
		return err
	})
}

// lentProcessor is the name of a body processor that leaves an answer as Coraza
// leaves one for which a transaction names no processor.
const lentProcessor = "lent"

func registerProcessor() {
	plugins.RegisterBodyProcessor(lentProcessor, func() plugintypes.BodyProcessor { return lent{} })
}

// single is what variables of one value can do beyond what Coraza's interface
// for plugins says.
type single interface {
	Get() string
	Set(value string)
}

// lend has the answer of a transaction be read through lent space, if nothing
// has named a processor for it.
func lend(tx types.Transaction) {
	state, ok := tx.(plugintypes.TransactionState)
	if !ok {
		return
	}
	if name, ok := state.Variables().ResponseBodyProcessor().(single); ok && name.Get() == "" {
		name.Set(lentProcessor)
	}
}

type lent struct{}

// ProcessRequest implements plugintypes.BodyProcessor; requests never name it.
func (lent) ProcessRequest(io.Reader, plugintypes.TransactionVariables, plugintypes.BodyProcessorOptions) error {
	return nil
}

// ProcessResponse sets what Coraza sets without a processor, and takes its own
// name away before any rule looks. Answers are in memory: reading does not fail.
func (lent) ProcessResponse(answer io.Reader, v plugintypes.TransactionVariables, _ plugintypes.BodyProcessorOptions) error {
	var b strings.Builder
	err := pour(&b, answer)
	v.ResponseBodyProcessor().(single).Set("")
	if err != nil {
		return err
	}
	v.ResponseContentLength().(single).Set(strconv.Itoa(b.Len()))
	v.ResponseBody().(single).Set(b.String())
	return nil
}
