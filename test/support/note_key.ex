defmodule EventSeal.NoteKey do
  @moduledoc false
  # A key of signed notes that signs whatever a test wants signed, by nothing of the library (FORMAT.md, "Signed notes").

  defstruct [:name, :type, :seed, :id, :text]

  @types %{log: 1, witness: 4}

  @doc "The key of a seed. Its verifier key is `text`."
  def new(name, purpose, seed) do
    type = @types[purpose]
    {public, _} = :crypto.generate_key(:eddsa, :ed25519, seed)
    <<id::binary-size(4), _::binary>> = :crypto.hash(:sha256, [name, ?\n, type, public])
    text = "#{name}+#{Base.encode16(id, case: :lower)}+#{Base.encode64(<<type, public::binary>>)}"
    %__MODULE__{name: name, type: type, seed: seed, id: id, text: text}
  end

  @doc "The key in a file of `EventSeal.Signer.File`, a log's."
  def read!(path) do
    ["PRIVATE", "KEY", name, _id, key] = path |> File.read!() |> String.trim() |> String.split("+", parts: 5)
    <<1, seed::binary-size(32)>> = Base.decode64!(key)
    new(name, :log, seed)
  end

  @doc "A note of this text that these keys have signed."
  def note(text, keys), do: IO.iodata_to_binary([text, ?\n | Enum.map(keys, &line(&1, text))])

  @doc "The signature line of a text."
  def line(key, text, time \\ 1_700_000_000)
  def line(%{type: 1} = key, text, _time), do: line_of(key, sign(key, text))

  def line(%{type: 4} = key, text, time),
    do: line_of(key, <<time::64>> <> sign(key, "cosignature/v1\ntime #{time}\n#{text}"))

  @doc "The line that says that this key has made this signature."
  def line_of(key, signature), do: "— #{key.name} #{Base.encode64(key.id <> signature)}\n"

  defp sign(key, text), do: :crypto.sign(:eddsa, :none, text, [key.seed, :ed25519])
end
