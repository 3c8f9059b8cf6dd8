package httpapi_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/queue/httpapi"
	"github.com/mtakit/mtakit/queue/httpapi/answerfile"
	"github.com/mtakit/mtakit/spool/spooltest"
)

// asked has room for all, and counts who asked.
type asked struct {
	mtakit.Throttles // for what is not used here
	n                int
}

func (a *asked) Take(_ context.Context, _ string, _ mtakit.Rate, n int) (time.Duration, error) {
	a.n += n
	return 0, nil
}

// A long request with a key that is repeated after its process has died goes on where that was: the answer is that of an undisturbed one, and only what was
// accepted since progress was last kept is accepted twice. With another body the key stays taken.
func TestRepeatGoesOn(t *testing.T) {
	t.Parallel()
	const n, window = 12_000, 4096
	var list []string
	for i := range n {
		email := fmt.Sprintf("r%d@d.example", i)
		if i%1000 == 500 {
			email = fmt.Sprint("nobody", i)
		}
		list = append(list, `{"email":"`+email+`"}`)
	}
	body := `{"envelope_sender":"","recipients":[` + strings.Join(list, ",") + `],"content":{"text_body":"x"}}`
	plain, _ := newAPI(t, nil)
	want := bodyOf(t, inject(plain, body))
	for _, dies := range []int{1, 10, 17, 33, 40} { // at which batch
		t.Run(fmt.Sprint(dies), func(t *testing.T) {
			t.Parallel()
			o := answerfile.Options{FS: new(spooltest.Disk)}
			times, paced := make(map[string]int), &asked{}
			life := func(dies int, body string) (r *http.Response) {
				kept, err := answerfile.Open("/answers", o)
				if err != nil {
					t.Fatal(err)
				}
				defer kept.Close()
				api, _ := newAPI(t, func(c *httpapi.Config) {
					c.Answers, c.Throttles, c.RecipientRate = kept, paced, mtakit.Rate{N: 1, Per: time.Second}
					c.Submit = func(_ context.Context, batch []mtakit.Submission, _ mtakit.Durability) error {
						if dies--; dies == 0 {
							panic(http.ErrAbortHandler)
						}
						for _, s := range batch {
							times[s.Message.To[0]]++
							s.Body.Close()
						}
						return nil
					}
				})
				defer func() { recover() }()
				return inject(api, body, "Idempotency-Key", "k")
			}
			if r := life(dies, body); r != nil {
				t.Fatalf("it did not die: %d", r.StatusCode)
			}
			before := len(times)
			paced.n = 0
			if before > window {
				if r := life(-1, body+" "); r.StatusCode != 422 {
					t.Errorf("another request with the key: %d", r.StatusCode)
				}
			}
			for range 2 {
				if r := life(-1, body); r.StatusCode != 200 || bodyOf(t, r) != want {
					t.Errorf("the repeat is answered with %d, and not as an undisturbed request", r.StatusCode)
				}
			}
			if most := n - max(before-window, 0); paced.n > most {
				t.Errorf("the repeats waited for %d recipients, and %d were left at most", paced.n, most)
			}
			twice := 0
			for _, n := range times {
				twice += n - 1
			}
			if len(times) != n-n/1000 || twice > window || twice > before {
				t.Errorf("%d recipients got a message, %d of them %d when it died, %d got two", len(times), before, dies, twice)
			}
		})
	}
}
