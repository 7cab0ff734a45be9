defmodule EventSeal.Verification do
  @moduledoc false
  # One native verification over pieces that lie in binaries or in files. The work runs on threads of its own; the caller
  # waits for a message, and its death stops the work.

  alias EventSeal.{Chain, Error, Native, Verdict}

  @tick 100

  @typedoc """
  `pieces` are the flow's containers in order: binaries, or `{:file, path, offset, length}`. `from` is the edge that an
  earlier run with `more: true` returned. `alone: true` says that what stands before the first piece is not given.
  `fixed`, `last` and `closed` are what the flow's keeper says of it, `nil` where nothing is known.
  """
  @type flow :: %{
          required(:flow) => String.t(),
          required(:pieces) => [binary | {:file, Path.t(), non_neg_integer, non_neg_integer}],
          optional(:from) => binary | nil,
          optional(:more) => boolean,
          optional(:alone) => boolean,
          optional(:fixed) => non_neg_integer | nil,
          optional(:last) => non_neg_integer | nil,
          optional(:closed) => boolean | nil
        }

  @spec run([flow], keyword) :: {:ok, Verdict.t(), [binary | nil]} | {:error, Error.t()}
  def run(flows, opts), do: flows |> start(opts) |> await()

  @typedoc "A run that has begun; only the process that began it can wait for it."
  @opaque started :: {reference, reference, integer, function | nil}

  @doc "Begins a run. It goes on until `await/1` has its outcome, or the caller forgets it."
  @spec start([flow], keyword) :: started
  def start(flows, opts) do
    started = System.monotonic_time(:microsecond)
    pool = Keyword.get_lazy(opts, :pool, fn -> pool(opts) end)
    tag = make_ref()
    settings = {Keyword.get(opts, :bodies, false), Keyword.get(opts, :max_faults, 1_000)}
    {Native.verify(pool, Enum.map(flows, &asked/1), settings, tag), tag, started, Keyword.get(opts, :progress)}
  end

  @spec await(started) :: {:ok, Verdict.t(), [binary | nil]} | {:error, Error.t()}
  def await({job, tag, started, progress}), do: await(job, tag, started, progress)

  @doc "Verifies one interchange file on the pool."
  @spec file(binary, keyword) :: {:ok, Verdict.t()} | {:error, Error.t()}
  def file(text, opts) do
    started = System.monotonic_time(:microsecond)
    pool = Keyword.get_lazy(opts, :pool, fn -> pool(opts) end)
    tag = make_ref()
    job = Native.verify_interchange(pool, text, Keyword.get(opts, :max_faults, 1_000), tag)
    with {:ok, verdict, _edges} <- await(job, tag, started, Keyword.get(opts, :progress)), do: {:ok, verdict}
  end

  @spec pool(keyword) :: reference
  def pool(opts), do: Native.pool(Keyword.get(opts, :threads, System.schedulers_online()))

  defp asked(flow) do
    {flow.flow, flow.pieces, flow[:from], {flow[:fixed], flow[:last], flow[:closed]}, flow[:more] || false,
     flow[:alone] || false}
  end

  defp await(job, tag, started, progress) do
    receive do
      {^tag, :done, counts, faults, edges} ->
        {:ok, verdict(counts, faults, started), edges}

      {^tag, :failed, :cancelled} ->
        {:error, Error.new(:cancelled)}

      {^tag, :failed, :panicked} ->
        raise "the native verification broke off; this is a defect of the library"

      {^tag, :failed, :badarg} ->
        raise ArgumentError, "not flows that can be verified; see the type EventSeal.Verification.flow"
    after
      @tick ->
        if progress, do: progress.(Native.progress(job))
        await(job, tag, started, progress)
    end
  end

  defp verdict({{flows, blocks, events, fixed, provisional}, {verified, not_shown, bytes, faults}}, list, started) do
    %Verdict{
      flows: flows,
      blocks: blocks,
      events: events,
      fixed: fixed,
      provisional: provisional,
      bodies_verified: verified,
      bodies_not_shown: not_shown,
      bytes: bytes,
      fault_count: faults,
      faults: Enum.map(list, &Chain.fault/1),
      microseconds: System.monotonic_time(:microsecond) - started
    }
  end
end
