package realclients

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/feature/s3/transfermanager"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"github.com/berth-go/berth"
)

// servers are the ways in which a test's server may be reached.
var servers = map[string]func(h http.Handler) (*httptest.Server, berth.Config){
	"HTTP/1.1": func(h http.Handler) (*httptest.Server, berth.Config) {
		return httptest.NewServer(h), berth.Config{}
	},
	"HTTP/2": func(h http.Handler) (*httptest.Server, berth.Config) {
		s := httptest.NewUnstartedServer(h)
		s.EnableHTTP2 = true
		s.StartTLS()
		return s, berth.Config{TLS: s.Client().Transport.(*http.Transport).TLSClientConfig}
	},
}

// over runs f with a server for h and a client of Berth's with no more than conns
// connections, over both protocols, and sees that nothing is left behind.
func over(t *testing.T, h func() http.Handler, conns int, f func(t *testing.T, url string, c *http.Client)) {
	for name, serve := range servers {
		t.Run(name, func(t *testing.T) {
			srv, cfg := serve(h())
			defer srv.Close()
			cfg.Policy.MaxConns = conns
			tr, err := berth.New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			f(t, srv.URL, &http.Client{Transport: tr})
			ep, err := tr.Endpoint(srv.URL)
			if err != nil {
				t.Fatal(err)
			}
			for limit := time.Now().Add(10 * time.Second); ep.Stats().Leased > 0 && time.Now().Before(limit); {
				time.Sleep(time.Millisecond)
			}
			if s := ep.Stats(); s.Leased+s.Waiting > 0 || s.PeakConns > conns {
				t.Errorf("%+v", s)
			}
			tr.Close()
		})
	}
}

// The S3 client does what S3 clients do: buckets, small objects from many
// goroutines, an upload and a download in parts, ranges, lists, presigned requests,
// errors with a body, cancellation.
func TestS3(t *testing.T) {
	backend := func() http.Handler { return gofakes3.New(s3mem.New()).Server() }
	over(t, backend, 8, func(t *testing.T, url string, hc *http.Client) {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		c := s3.New(s3.Options{
			BaseEndpoint: &url, UsePathStyle: true, Region: "eu-central-1", HTTPClient: hc,
			// The server in this test does not know the checksums that the client would send
			// as trailers over TLS.
			RequestChecksumCalculation: aws.RequestChecksumCalculationWhenRequired,
			ResponseChecksumValidation: aws.ResponseChecksumValidationWhenRequired,
			Credentials:                credentials.NewStaticCredentialsProvider("key", "secret", ""),
		})
		bucket := aws.String("bucket")
		must := func(_ any, err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		must(c.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: bucket}))

		var wg sync.WaitGroup
		for i := range 200 {
			wg.Go(func() {
				key, body := aws.String(fmt.Sprintf("small/%03d", i)), bytes.Repeat([]byte{byte(i)}, i*37)
				if _, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: bucket, Key: key, Body: bytes.NewReader(body)}); err != nil {
					t.Errorf("put %s: %v", *key, err)
					return
				}
				got, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: key})
				if err != nil {
					t.Errorf("get %s: %v", *key, err)
					return
				}
				defer got.Body.Close()
				if b, err := io.ReadAll(got.Body); err != nil || !bytes.Equal(b, body) {
					t.Errorf("%s: %d bytes of %d, %v", *key, len(b), len(body), err)
				}
			})
		}
		wg.Wait()

		big := make([]byte, 40<<20)
		rand.NewChaCha8([32]byte{1}).Read(big)
		parts := transfermanager.New(c, func(o *transfermanager.Options) {
			o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
		})
		must(parts.UploadObject(ctx, &transfermanager.UploadObjectInput{Bucket: bucket, Key: aws.String("big"), Body: bytes.NewReader(big)}))
		buf := &memory{}
		must(parts.DownloadObject(ctx, &transfermanager.DownloadObjectInput{Bucket: bucket, Key: aws.String("big"), WriterAt: buf}))
		if sha256.Sum256(buf.b) != sha256.Sum256(big) {
			t.Error("the large object came back different")
		}
		part, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: aws.String("big"), Range: aws.String("bytes=1000000-1000999")})
		must(nil, err)
		if b, _ := io.ReadAll(part.Body); !bytes.Equal(b, big[1000000:1001000]) {
			t.Errorf("range: %d bytes", len(b))
		}
		part.Body.Close()

		pages := s3.NewListObjectsV2Paginator(c, &s3.ListObjectsV2Input{Bucket: bucket, Prefix: aws.String("small/"), MaxKeys: aws.Int32(30)})
		n := 0
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			must(nil, err)
			n += len(page.Contents)
		}
		if n != 200 {
			t.Errorf("listed %d objects", n)
		}

		signed, err := s3.NewPresignClient(c).PresignGetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: aws.String("small/002")})
		must(nil, err)
		resp, err := hc.Get(signed.URL)
		must(nil, err)
		if b, _ := io.ReadAll(resp.Body); len(b) != 74 {
			t.Errorf("presigned: %d bytes, %s", len(b), resp.Status)
		}
		resp.Body.Close()

		_, err = c.GetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: aws.String("missing")})
		var missing *types.NoSuchKey
		if !errors.As(err, &missing) {
			t.Errorf("missing object: %v", err)
		}

		short, stop := context.WithCancel(ctx)
		body, err := c.GetObject(short, &s3.GetObjectInput{Bucket: bucket, Key: aws.String("big")})
		must(nil, err)
		io.CopyN(io.Discard, body.Body, 1000)
		stop()
		if _, err := io.Copy(io.Discard, body.Body); err == nil {
			t.Error("the rest of a cancelled download came")
		}
		body.Body.Close()
	})
}

// memory takes parts that arrive in any order.
type memory struct {
	mu sync.Mutex
	b  []byte
}

func (m *memory) WriteAt(p []byte, at int64) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if need := int(at) + len(p); need > len(m.b) {
		m.b = append(m.b, make([]byte, need-len(m.b))...)
	}
	return copy(m.b[at:], p), nil
}
