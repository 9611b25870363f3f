package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"pasban"
	"pasban/internal/ledger/tiles"
	"pasban/internal/ledger/witness"

	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/note"
)

// witnessDoc is what --init prints and what a start says.
type witnessDoc struct {
	Schema string `json:"schema"`
	Key    string `json:"key,omitempty"`
	Listen string `json:"listen,omitempty"`
}

// witnessFlags is the whole configuration of a witness.
type witnessFlags struct {
	init      bool
	name, dir string
	listen    string
	cert, key string
	logs      []string
	plain     bool
}

func (c *cli) witnessCmd() *cobra.Command {
	var o witnessFlags
	cmd := &cobra.Command{
		Use:   "witness",
		Short: "Watch the ledgers of others: cosign what extends all that was seen before",
		Long: `witness answers the add-checkpoint requests of ledgers (C2SP tlog-witness): it
cosigns a checkpoint if that contains everything that it has cosigned of the
same ledger, and refuses a fork or a step back. A university or a newspaper can
run one; it needs a directory and nothing else.

  pasban witness --init --name witness.example/w1 --dir DIR    makes it and prints its key
  pasban witness --dir DIR --listen :443 --cert FILE --key FILE --log KEY [--log KEY]

Behind a proxy that ends TLS: --plain instead of --cert and --key.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.init {
				return c.witnessInit(o)
			}
			return c.witness(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.init, "init", false, "make a witness, print its verifier key and end")
	f.StringVar(&o.name, "name", "", "with --init: the witness's `name`, its address without https://")
	f.StringVar(&o.dir, "dir", "witness", "the `directory` of its key and its memory")
	f.StringVar(&o.listen, "listen", "127.0.0.1:8444", "`address` to listen on")
	f.StringVar(&o.cert, "cert", "", "the certificate chain, a PEM `file`")
	f.StringVar(&o.key, "key", "", "the certificate's key, a PEM `file`")
	f.BoolVar(&o.plain, "plain", false, "without TLS, behind a proxy that ends it")
	f.StringArrayVar(&o.logs, "log", nil, "a ledger's verifier `key`, or a file that holds it; may be repeated")
	return cmd
}

func (c *cli) witnessInit(o witnessFlags) error {
	if o.name == "" {
		return &pasban.Error{Kind: pasban.Invalid, Where: "--name", Msg: "a witness needs a name", Hint: "its address without https://, such as witness.example/w1"}
	}
	vkey, err := witness.Init(o.dir, o.name)
	if err != nil {
		return err
	}
	if c.json {
		return c.print(witnessDoc{Schema: "pasban.witness-key.v1", Key: vkey})
	}
	fmt.Fprintln(c.out, vkey)
	return nil
}

// witness serves until ctx ends.
func (c *cli) witness(ctx context.Context, o witnessFlags) error {
	if o.name != "" {
		return &pasban.Error{Kind: pasban.Invalid, Where: "--name", Msg: "the name is given once, with --init"}
	}
	if len(o.logs) == 0 {
		return &pasban.Error{Kind: pasban.Invalid, Where: "--log", Msg: "no ledger to watch", Hint: "--log KEY, as its agency publishes it in ledger/vkey"}
	}
	if o.plain == (o.cert != "" || o.key != "") {
		return &pasban.Error{Kind: pasban.Invalid, Msg: "either --cert and --key, or --plain", Hint: "--plain is for a proxy that ends TLS"}
	}
	logs, err := verifiers("--log", o.logs)
	if err != nil {
		return err
	}
	log := c.logger()
	srv := &http.Server{
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 20 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10,
	}
	if !o.plain {
		pair, err := tls.LoadX509KeyPair(o.cert, o.key)
		if err != nil {
			return &pasban.Error{Kind: pasban.Invalid, Where: o.cert, Msg: "the certificate and its key cannot be used", Err: err}
		}
		srv.TLSConfig = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	}
	w, err := witness.Open(o.dir, logs, log)
	if err != nil {
		return err
	}
	defer w.Close()
	srv.Handler = w.Handler()
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", o.listen)
	if err != nil {
		return &pasban.Error{Kind: pasban.Invalid, Where: "--listen", Msg: "cannot listen", Err: err}
	}
	if c.json {
		if err := c.print(witnessDoc{Schema: "pasban.witness-ready.v1", Listen: l.Addr().String()}); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(c.out, "%s watches %d ledgers on %s\n", w.Status().Witness, len(logs), l.Addr())
	}
	return serveUntil(ctx, srv, l)
}

// serveUntil serves until ctx ends, and lets requests finish.
func serveUntil(ctx context.Context, srv *http.Server, l net.Listener) error {
	failed := make(chan error, 1)
	go func() {
		if srv.TLSConfig != nil {
			failed <- srv.ServeTLS(l, "", "")
		} else {
			failed <- srv.Serve(l)
		}
	}()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if err := srv.Shutdown(end); err != nil && !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// verifiers takes each text of a flag for a ledger's verifier key, or else for a
// file with one.
func verifiers(flag string, texts []string) ([]note.Verifier, error) {
	var out []note.Verifier
	for _, text := range texts {
		var v note.Verifier
		isKey := func(text string) (err error) {
			v, err = note.NewVerifier(text)
			return err
		}
		key, err := tiles.KeyText(text, isKey)
		if err != nil {
			return nil, &pasban.Error{Kind: pasban.Invalid, Where: flag, Msg: "not a verifier key, and not a file that holds one", Err: err}
		}
		if err := isKey(key); err != nil {
			return nil, &pasban.Error{Kind: pasban.Invalid, Where: text, Msg: "not a ledger's verifier key", Err: err}
		}
		out = append(out, v)
	}
	return out, nil
}
