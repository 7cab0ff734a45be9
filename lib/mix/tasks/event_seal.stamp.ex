defmodule Mix.Tasks.EventSeal.Stamp do
  @shortdoc "Has a checkpoint stamped by a time-stamp authority"
  @moduledoc """
  Writes what a time-stamp authority (RFC 3161) is to be asked for a checkpoint of a store in a folder, and keeps its answer.

      mix event_seal.stamp --dir DIR [--archive DIR] [--size N] [--policy OID] --out FILE
      mix event_seal.stamp --dir DIR [--archive DIR] --request FILE --response FILE --anchors PEM

  The first writes a request, DER, for the last checkpoint or for the one of `--size` leaves. How it comes to an authority is
  not the library's business; over HTTP, for instance:

      curl -H 'Content-Type: application/timestamp-query' --data-binary @request.tsq -o response.tsr https://AUTHORITY

  The second checks the answer against the request and the authority's trusted certificates, `--anchors`, and keeps it with
  the checkpoint (`EventSeal.Stamp`). It writes to the store, so no host may hold it meanwhile; a host that does has
  `EventSeal.stamp_request/2` and `EventSeal.add_stamp/4`.

  Exit status: 0 written or kept, 2 could not run, or the answer is not to be believed.

  Without Mix: `EventSeal.Command.stamp/1`.
  """
  use Mix.Task

  @impl true
  def run(args) do
    Mix.Task.run("app.config")
    status = EventSeal.Command.stamp(args)
    if status != 0, do: exit({:shutdown, status})
  end
end
