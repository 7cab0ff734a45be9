defmodule EventSeal.Verification do
  @moduledoc false
  # One native verification over pieces that lie in binaries or in files. The work runs on threads of its own; the caller
  # waits for a message, and its death stops the work. A pool is made once for a verification: it holds the budget too.

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

  @typedoc "Closed flows, whole, whose containers lie in files; see `EventSeal.Store.Sheaf`."
  @type sheaf :: %{
          required(:paths) => [{non_neg_integer, Path.t()}],
          required(:flows) => [{String.t(), last :: pos_integer, places :: binary}],
          optional(atom) => term
        }

  @spec run([flow | sheaf], keyword) :: {:ok, Verdict.t(), [binary | nil]} | {:error, Error.t()}
  def run(flows, opts), do: flows |> start(opts) |> outcome()

  @typedoc "A run that has begun; only the process that began it can wait for it."
  @opaque started :: {reference, reference, reference, integer, function | nil}

  @doc "Begins a run. It goes on until `await/1` has its outcome, the pool is abandoned, or the caller dies."
  @spec start([flow | sheaf], keyword) :: started
  def start(flows, opts) do
    settings = {Keyword.get(opts, :bodies, false), Keyword.get(opts, :max_faults, 1_000)}
    begin(opts, &Native.verify(&1, Enum.map(flows, fn flow -> asked(flow) end), settings, opts[:held], &2))
  end

  @spec await(started) :: {:ok, Verdict.t(), [binary | nil]} | {:error, Error.t()}
  def await({pool, job, tag, started, progress}), do: await(pool, job, tag, started, progress)

  @doc "Verifies one interchange file on the pool."
  @spec file(binary, keyword) :: {:ok, Verdict.t()} | {:error, Error.t()}
  def file(text, opts) do
    started = begin(opts, &Native.verify_interchange(&1, text, Keyword.get(opts, :max_faults, 1_000), &2))
    with {:ok, verdict, _edges} <- outcome(started), do: {:ok, verdict}
  end

  @doc "Verifies the chain of one archive on the pool; its signatures are not looked at."
  @spec archive(Path.t(), keyword) :: {:ok, Verdict.t()} | {:error, Error.t()}
  def archive(path, opts) do
    started = begin(opts, &Native.verify_archive(&1, path, Keyword.get(opts, :max_faults, 1_000), &2))
    with {:ok, verdict, _edges} <- outcome(started), do: {:ok, verdict}
  end

  @doc "Whatever this process has under way in the pool is not wanted any more: nothing works on, and no message comes later."
  @spec abandon(reference) :: :ok
  def abandon(pool) do
    with {job, tag} <- Process.get({__MODULE__, pool}, :ok) do
      :ok = Native.cancel(job)
      receive(do: (answer when elem(answer, 0) == tag -> answered(pool)))
    end
  end

  @spec pool(keyword) :: reference
  def pool(opts), do: Native.pool(Keyword.get(opts, :threads, System.schedulers_online()), opts[:max_rate])

  # Of closed flows, whole, nothing is made: they go as they came.
  defp asked(%{flows: flows, paths: paths}), do: {paths, flows}

  defp asked(flow) do
    {flow.flow, flow.pieces, flow[:from], {flow[:fixed], flow[:last], flow[:closed]}, flow[:more] || false,
     flow[:alone] || false}
  end

  defp begin(opts, call) do
    started = System.monotonic_time(:microsecond)
    pool = Keyword.get_lazy(opts, :pool, fn -> pool(opts) end)
    tag = make_ref()
    job = call.(pool, tag)
    Process.put({__MODULE__, pool}, {job, tag})
    {pool, job, tag, started, Keyword.get(opts, :progress)}
  end

  defp answered(pool) do
    Process.delete({__MODULE__, pool})
    :ok
  end

  defp outcome({pool, _, _, _, _} = started) do
    await(started)
  after
    abandon(pool)
  end

  defp await(pool, job, tag, started, progress) do
    receive do
      {^tag, :done, counts, faults, edges} ->
        answered(pool)
        {:ok, verdict(counts, faults, started), edges}

      {^tag, :failed, reason} ->
        answered(pool)
        failed(reason)
    after
      @tick ->
        if progress && progress.(Native.progress(job)) == :cancel,
          do: cancelled(pool),
          else: await(pool, job, tag, started, progress)
    end
  end

  defp cancelled(pool) do
    abandon(pool)
    {:error, Error.new(:cancelled)}
  end

  @spec failed(:panicked | :badarg) :: no_return
  defp failed(:panicked), do: raise("the native verification broke off; this is a defect of the library")

  defp failed(:badarg),
    do: raise(ArgumentError, "not flows that can be verified; see the type EventSeal.Verification.flow")

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
