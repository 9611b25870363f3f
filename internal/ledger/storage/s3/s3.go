// Package s3 keeps a log in an object store that speaks S3, with Tessera's driver
// for Amazon's, which keeps leaves in a MySQL or MariaDB database from when it has
// taken them until they are in the store's tiles.
//
// [New] names bucket and database; [Log.Claim] takes the log with a named lock of
// the database's server. The objects have the names of C2SP tlog-tiles below the
// prefix, so that the bucket can be read by anyone who may.
//
// It guarantees that an object is replaced as a whole, and that the driver neither
// publishes nor integrates while something is put right. It must never let a
// secret into an error, and never believe that a claim is still held without asking.
package s3

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/transparency-dev/tessera"
	tesseraaws "github.com/transparency-dev/tessera/storage/aws"
	"golang.org/x/mod/sumdb/tlog"

	"pasban"
	"pasban/internal/ledger/storage/mysql"
	"pasban/internal/ledger/tiles"
)

const (
	// requestTimeout bounds one request: nothing waits for ever.
	requestTimeout = 15 * time.Second
	// connections to the database: what the driver and an audit use.
	connections = 16
	// region is what a store of one's own is told where nobody said one.
	region = "us-east-1"
)

// Bucket says where in which object store.
type Bucket struct {
	Bucket, Prefix string // Prefix has no slash at its ends
	Region         string // "": what the environment says
	Endpoint       string // "": Amazon's
	Key, Secret    string // "": what the environment says
}

// Log is a log in an object store.
type Log struct {
	at     Bucket
	server mysql.Server
	db     *sql.DB
	claim  *mysql.Claim
	client *s3.Client
	config aws.Config
}

// New returns the log in a bucket. It does not connect yet.
func New(b Bucket, server mysql.Server) (*Log, error) {
	l := &Log{at: b, server: server}
	opts := []func(*config.LoadOptions) error{config.WithHTTPClient(awshttp.NewBuildableClient().WithTimeout(requestTimeout))}
	if b.Region != "" {
		opts = append(opts, config.WithRegion(b.Region))
	}
	if b.Key != "" {
		opts = append(opts, config.WithCredentialsProvider(credentials.NewStaticCredentialsProvider(b.Key, b.Secret, "")))
	}
	var err error
	if l.config, err = config.LoadDefaultConfig(context.Background(), opts...); err != nil {
		return nil, l.unavailable("the environment's settings for the object store cannot be used", err)
	}
	if l.config.Region == "" && b.Endpoint != "" {
		l.config.Region = region
	}
	l.client = s3.NewFromConfig(l.config, l.options)
	if l.db, err = server.Open(); err != nil {
		return nil, err
	}
	l.claim = mysql.NewClaim(l.db, l.Name(), "pasban-ledger "+server.Database)
	return l, nil
}

// options are those of a store of one's own.
func (l *Log) options(o *s3.Options) {
	if l.at.Endpoint != "" {
		o.BaseEndpoint = aws.String(l.at.Endpoint)
		o.UsePathStyle = true // its name has no subdomain for each bucket
	}
}

// Name is the bucket's address without key and secret.
func (l *Log) Name() string { return strings.TrimSuffix("s3://"+l.at.Bucket+"/"+l.at.Prefix, "/") }

// Interval is the shortest that the driver takes.
func (l *Log) Interval() time.Duration { return time.Second }

// Claim takes the log for this process, and looks whether the bucket is there.
func (l *Log) Claim(ctx context.Context) error {
	if err := l.claim.Take(ctx); err != nil {
		return err
	}
	if _, err := l.client.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &l.at.Bucket}); err != nil {
		e := l.unavailable("the bucket cannot be used", err)
		e.Hint = "make it first, and let the node's key list, read, write and delete in it"
		return e
	}
	return nil
}

// Ready asks whether the claim is still held.
func (l *Log) Ready(ctx context.Context) error { return l.claim.Held(ctx) }

// Driver returns Tessera's driver of S3.
func (l *Log) Driver(ctx context.Context) (tessera.Driver, error) {
	return tesseraaws.New(ctx, tesseraaws.Config{
		SDKConfig: &l.config, S3Options: l.options,
		Bucket: l.at.Bucket, BucketPrefix: l.at.Prefix,
		DSN: l.server.DSN(), MaxOpenConns: connections, MaxIdleConns: connections,
	})
}

// key is the object's name of a file.
func (l *Log) key(name string) *string {
	if l.at.Prefix != "" {
		name = l.at.Prefix + "/" + name
	}
	return &name
}

// ReadFile reads an object.
func (l *Log) ReadFile(ctx context.Context, name string) ([]byte, error) {
	r, err := l.client.GetObject(ctx, &s3.GetObjectInput{Bucket: &l.at.Bucket, Key: l.key(name)})
	if _, missing := errors.AsType[*types.NoSuchKey](err); missing {
		return nil, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
	}
	if err != nil {
		return nil, l.unavailable("read "+name, err)
	}
	defer r.Body.Close()
	data, err := io.ReadAll(io.LimitReader(r.Body, tiles.MaxFile+1))
	switch {
	case err != nil:
		return nil, l.unavailable("read "+name, err)
	case len(data) > tiles.MaxFile:
		return nil, &pasban.Error{Kind: pasban.Invalid, Where: l.Name() + "/" + name, Msg: "the object is larger than any file of a ledger"}
	}
	return data, nil
}

// List names the objects under tile/.
func (l *Log) List(ctx context.Context, each func(name string) error) error {
	pages := s3.NewListObjectsV2Paginator(l.client, &s3.ListObjectsV2Input{Bucket: &l.at.Bucket, Prefix: l.key("tile/")})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return l.unavailable("list the objects", err)
		}
		for _, o := range page.Contents {
			if err := each(strings.TrimPrefix(aws.ToString(o.Key), *l.key(""))); err != nil {
				return err
			}
		}
	}
	return nil
}

// WriteFile replaces an object. What caches may do with it is said as the driver
// says it, for whoever reads the bucket.
func (l *Log) WriteFile(ctx context.Context, name string, data []byte) error {
	put := &s3.PutObjectInput{Bucket: &l.at.Bucket, Key: l.key(name), Body: bytes.NewReader(data),
		ContentType: aws.String("application/octet-stream"), CacheControl: aws.String("max-age=604800,immutable")}
	if _, err := tiles.ParsePath(name); err != nil { // the checkpoint, the key
		put.ContentType, put.CacheControl = aws.String("text/plain; charset=utf-8"), aws.String("no-cache")
	}
	if _, err := l.client.PutObject(ctx, put); err != nil {
		return l.unavailable("write "+name, err)
	}
	return nil
}

// Remove removes an object.
func (l *Log) Remove(ctx context.Context, name string) error {
	if _, err := l.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &l.at.Bucket, Key: l.key(name)}); err != nil {
		return l.unavailable("remove "+name, err)
	}
	return nil
}

// ReplaceCheckpoint replaces the checkpoint while it holds the row that the driver
// locks while it signs and publishes.
func (l *Log) ReplaceCheckpoint(ctx context.Context, raw []byte, still func() bool) error {
	return l.locked(ctx, "SELECT `id` FROM `PubCoord` WHERE `id` = 0 FOR UPDATE", func(*sql.Tx) error {
		if !still() {
			return nil
		}
		return l.WriteFile(ctx, tiles.Checkpoint, raw)
	})
}

// SetBack sets the driver's time of publication.
func (l *Log) SetBack(ctx context.Context, latest, now time.Time) (was time.Time, moved bool, err error) {
	var at int64
	err = l.db.QueryRowContext(ctx, "SELECT `publishedAt` FROM `PubCoord` WHERE `id` = 0").Scan(&at)
	was = time.Unix(at, 0)
	if errors.Is(err, sql.ErrNoRows) {
		return was, false, nil // the driver never ran
	}
	if err != nil || !was.After(latest) {
		return was, false, err
	}
	_, err = l.db.ExecContext(ctx, "UPDATE `PubCoord` SET `publishedAt` = ? WHERE `id` = 0 AND `publishedAt` > ?", now.Unix(), latest.Unix())
	return was, true, err
}

// Restore runs f while the driver waits for the row that says what is in the
// tiles, and then forgets what it has taken beyond f's tree.
func (l *Log) Restore(ctx context.Context, f func(context.Context) (tlog.Tree, error)) (found []tiles.Finding, err error) {
	if err := l.tables(ctx); err != nil {
		return nil, err
	}
	err = l.locked(ctx, "SELECT `id` FROM `IntCoord` WHERE `id` = 0 FOR UPDATE", func(tx *sql.Tx) error {
		tree, err := f(ctx)
		if err != nil {
			return err
		}
		if found, err = mysql.SetTree(ctx, tx, "IntCoord", "seq", "rootHash", tree); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, "DELETE FROM `Seq`"); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, "REPLACE INTO `SeqCoord` (`id`, `next`) VALUES (0, ?)", tree.N)
		return err
	})
	return found, err
}

// tables makes those that Restore needs before the driver has run for the first
// time, as it does (version 1 of its schema): a log may be made again in an empty place.
func (l *Log) tables(ctx context.Context) error {
	for _, q := range []string{
		"CREATE TABLE IF NOT EXISTS `SeqCoord` (`id` INT UNSIGNED NOT NULL PRIMARY KEY, `next` BIGINT UNSIGNED NOT NULL)",
		"CREATE TABLE IF NOT EXISTS `Seq` (`id` INT UNSIGNED NOT NULL, `seq` BIGINT UNSIGNED NOT NULL, `v` LONGBLOB, PRIMARY KEY (`id`, `seq`))",
		"CREATE TABLE IF NOT EXISTS `IntCoord` (`id` INT UNSIGNED NOT NULL PRIMARY KEY, `seq` BIGINT UNSIGNED NOT NULL, `rootHash` TINYBLOB NOT NULL)",
		"CREATE TABLE IF NOT EXISTS `PubCoord` (`id` INT UNSIGNED NOT NULL PRIMARY KEY, `publishedAt` BIGINT NOT NULL, `size` BIGINT UNSIGNED)",
	} {
		if _, err := l.db.ExecContext(ctx, q); err != nil {
			return l.unavailable("the ledger's tables cannot be made", err)
		}
	}
	return nil
}

func (l *Log) locked(ctx context.Context, query string, f func(*sql.Tx) error) error {
	return mysql.Locked(ctx, l.db, l.Name(), query, f)
}

// Close gives the log up.
func (l *Log) Close() error {
	return errors.Join(l.claim.Close(), l.db.Close())
}

func (l *Log) unavailable(msg string, err error) *pasban.Error {
	return &pasban.Error{Kind: pasban.Unavailable, Where: l.Name(), Msg: msg, Err: err}
}
