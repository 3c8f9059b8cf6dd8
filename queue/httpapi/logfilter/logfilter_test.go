package logfilter_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/mtakit/mtakit/queue/httpapi/logfilter"
)

func ExampleFilter() {
	logs := logfilter.New("mta", slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{
		Level: logfilter.Trace,
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	}))
	queue, smtp := logs.Logger("queue"), logs.Logger("smtp")
	if err := logs.Set("warn,queue=debug"); err != nil {
		fmt.Println(err)
	}
	queue.Debug("something small")
	smtp.Info("something")
	smtp.Warn("something large")
	fmt.Println(logs.Set("spool=debug"))
	// Output:
	// level=DEBUG msg="something small" target=queue
	// level=WARN msg="something large" target=smtp
	// there is no target "spool": expected mta, queue, smtp
}

func TestSet(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		filter, want string // the lowest level of the program itself, of queue, and of spool
	}{
		{"info", "info info info"},
		{"kumod=trace", "trace trace trace"},
		{"KUMOD=trace", `there is no target "KUMOD": expected kumod, queue, spool`},
		{"kumod=TRACE", "trace trace trace"},
		{"debug", "debug debug debug"},
		{"info,queue=debug", "info debug info"},
		{"queue=debug,info", "info debug info"},
		{" info , queue = debug ,", "info debug info"},
		{"kumod=info,kumod::queue=debug", "info debug info"},
		{"warn,kumod=info", "info info info"},
		{"queue=debug", "error debug error"},
		{"info,queue", "info trace info"},
		{"info,queue=off", "info off info"},
		{"info,queue=debug,queue=warn", "info warn info"},
		{"off", "off off off"},
		{"", "error error error"},
		{"kumod=loud", `"loud" is not a level: expected trace, debug, info, warn, error or off`},
		{"info,queue=", `"" is not a level: expected trace, debug, info, warn, error or off`},
		{"loud", `there is no target "loud": expected kumod, queue, spool`},
		{"=info", `there is no target "": expected kumod, queue, spool`},
		{"kumod[span]=info", "spans and fields are not supported"},
	} {
		t.Run(c.filter, func(t *testing.T) {
			t.Parallel()
			f := logfilter.New("kumod", slog.NewTextHandler(&strings.Builder{}, &slog.HandlerOptions{Level: logfilter.Trace}))
			loggers := []*slog.Logger{f.Logger(""), f.Logger("queue").WithGroup("g").With("k", "v")}
			err := f.Set(c.filter)
			loggers = append(loggers, f.Logger("queue"), f.Logger("spool"))
			if err != nil { // spool is not known yet
				err = f.Set(c.filter)
			}
			if err != nil {
				if err.Error() != c.want {
					t.Errorf("%v, want %s", err, c.want)
				}
				for _, l := range loggers {
					if lowest(l) != "info" {
						t.Errorf("a bad filter is in force")
					}
				}
				return
			}
			if got := lowest(loggers[0]) + " " + lowest(loggers[1]) + " " + lowest(loggers[3]); got != c.want || lowest(loggers[2]) != lowest(loggers[1]) {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func lowest(l *slog.Logger) string {
	for name, level := range map[string]slog.Level{"trace": logfilter.Trace, "debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError} {
		if l.Enabled(context.Background(), level) && !l.Enabled(context.Background(), level-1) {
			return name
		}
	}
	if l.Enabled(context.Background(), slog.LevelError+100) {
		return "all"
	}
	return "off"
}

// FuzzSet: an error leaves what was in force, and a filter that is taken is taken again, with the same effect.
func FuzzSet(f *testing.F) {
	for _, s := range []string{"info,queue=debug", "kumod=trace", "queue", "off,,", "a=b=c", "[x]=info"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, filter string) {
		fl := logfilter.New("kumod", slog.NewTextHandler(&strings.Builder{}, &slog.HandlerOptions{Level: logfilter.Trace - 1}))
		all, queue := fl.Logger(""), fl.Logger("queue")
		err := fl.Set(filter)
		a, q := lowest(all), lowest(queue)
		if err != nil && (a != "info" || q != "info") {
			t.Fatalf("%v, but %s, %s", err, a, q)
		}
		if err == nil && (fl.Set(strings.ToUpper("off")) != nil || lowest(all) != "off" || fl.Set(filter) != nil || lowest(all) != a || lowest(queue) != q) {
			t.Fatalf("%q twice is not the same", filter)
		}
	})
}
