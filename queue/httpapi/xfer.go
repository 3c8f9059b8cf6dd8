package httpapi

import (
	"errors"
	"io"
	"net/http"

	"github.com/mtakit/mtakit"
	"github.com/mtakit/mtakit/queue/xfer"
)

// routesXfer adds the endpoints for transfers between nodes.
func (a *API) routesXfer() {
	a.Handle("POST", "/api/admin/xfer/v1", http.HandlerFunc(a.startXfer))
	a.Handle("POST", "/api/admin/xfer/cancel/v1", http.HandlerFunc(a.cancelXfer))
	a.Handle("POST", "/api/xfer/inject/v1", http.HandlerFunc(a.receiveXfer))
}

// startXfer is POST /api/admin/xfer/v1. Unknown fields are refused: a misspelt criterion would have the order be for every queue.
func (a *API) startXfer(w http.ResponseWriter, r *http.Request) {
	var order xfer.Order
	if !a.read(w, r, func(r *reader) {
		match := &order.Match
		r.object("struct XferV1Request", 2, append([]field{
			{"reason", func() { order.Reason = r.reason() }},
			{"target", func() {
				order.Target = r.str()
				if _, err := xfer.QueueName(order.Target); err != nil {
					r.shape("%v", err)
				}
			}},
		}, append(criteria(r, match), routingDomain(r, match), queueNames(r, match))...)...)
	}) {
		return
	}
	if err := a.cfg.Xfer.Start(order); err != nil {
		problem(w, http.StatusInternalServerError, "%v", err)
		return
	}
	answer(w, struct{}{})
}

// cancelXfer is POST /api/admin/xfer/cancel/v1.
func (a *API) cancelXfer(w http.ResponseWriter, r *http.Request) {
	var name, reason string
	if !a.read(w, r, func(r *reader) {
		r.lenient("struct XferCancelV1Request", 2, field{"queue_name", func() { name = r.str() }}, field{"reason", func() { reason = r.reason() }})
	}) {
		return
	}
	switch err := a.cfg.Xfer.Cancel(name, reason); {
	case errors.Is(err, xfer.ErrNotXferQueue):
		problem(w, http.StatusBadRequest, "%v", err)
	case errors.Is(err, xfer.ErrNoQueue):
		problem(w, http.StatusNotFound, "%v", err)
	case err != nil:
		problem(w, http.StatusInternalServerError, "%v", err)
	default:
		answer(w, struct{}{})
	}
}

// receiveXfer is POST /api/xfer/inject/v1, which other nodes call.
func (a *API) receiveXfer(w http.ResponseWriter, r *http.Request) {
	if why := a.refusal(); why != "" {
		problem(w, http.StatusServiceUnavailable, "%s", why)
		return
	}
	source, ok := a.readBody(w, r, a.cfg.XferLimit, nil)
	if !ok {
		return
	}
	defer source.Close()
	weight := min(max(source.Size(), 1), a.cfg.MaxInFlight)
	if a.inFlight.Acquire(r.Context(), weight) != nil {
		interrupted.write(w)
		return
	}
	defer a.inFlight.Release(weight)
	payload := make([]byte, source.Size())
	if _, err := source.ReadAt(payload, 0); err != nil && err != io.EOF {
		a.cfg.Log.Error("request body could not be read back", "err", err)
		problem(w, http.StatusInternalServerError, "internal error")
		return
	}
	c := callerOf(r)
	id, err := a.cfg.Xfer.Receive(r.Context(), payload, xfer.Origin{From: c.auth.PeerAddress, Via: c.local, Auth: c.auth.Summary()})
	switch {
	case err == nil:
		answer(w, idReply{id.String()})
	case errors.Is(err, xfer.ErrSelf):
		problem(w, http.StatusBadRequest, "%v", err)
	case errors.Is(err, xfer.ErrMalformed):
		problem(w, http.StatusInternalServerError, "%v", err)
	case errors.Is(err, xfer.ErrBusy), r.Context().Err() != nil:
		problem(w, http.StatusServiceUnavailable, "%v", err)
	case shortage(err) != nil:
		problem(w, http.StatusServiceUnavailable, "%v", shortage(err))
	case errors.Is(err, mtakit.ErrOverloaded):
		problem(w, http.StatusServiceUnavailable, "load shedding")
	default:
		a.cfg.Log.Error("message of another node not accepted", "from", c.auth.PeerAddress, "err", err)
		problem(w, http.StatusInternalServerError, "internal error")
	}
}
