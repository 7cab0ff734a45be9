defmodule Bench.Rows.Receipts do
  @moduledoc false
  # What signed receipts cost: durable appends of single events by many callers, each to a flow of its own, with plain
  # receipts and with signed ones, in turn.

  alias Bench.{Callers, Samples, Store}
  alias EventSeal.Signer

  @body :binary.copy("b", 300)

  @spec groups(map) :: [{[String.t()], (() -> [Samples.result()])}]
  def groups(options) do
    for callers <- [64, 256] do
      [plain, signed] = rows = for kind <- ~w(plain signed), do: "receipts_#{kind}_#{callers}"
      {rows, fn -> Store.in_folder(&compare(plain, signed, callers, &1, options)) end}
    end
  end

  defp compare(plain, signed, callers, dir, options) do
    measure = fn opts -> fn -> rate(Path.join(dir, "fresh"), callers, opts, options.seconds) end end

    Samples.take(
      [
        {[{plain, "event_seal"}], measure.(checkpoints: checkpoints(dir))},
        {[{signed, "event_seal"}], measure.(checkpoints: checkpoints(dir), receipts: [signer: key(dir, :receipts)])}
      ],
      options.samples
    )
  end

  defp checkpoints(dir), do: [signer: key(dir, :log)]

  defp key(dir, purpose) do
    path = Path.join(dir, "#{purpose}.key")
    unless File.exists?(path), do: {:ok, _} = Signer.File.generate(path, "clinic.example/#{purpose}", purpose)
    {Signer.File, path}
  end

  defp rate(path, callers, opts, seconds) do
    Store.open(path, opts, fn name ->
      append = fn caller, n -> {:ok, _} = EventSeal.append(name, "patient/#{caller}", Store.event(n, @body)) end
      hd(Callers.run(callers, seconds, append, fn caller -> {:ok, _} = EventSeal.seal(name, "patient/#{caller}") end))
    end)
  after
    File.rm_rf!(path)
  end
end
