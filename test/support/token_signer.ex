defmodule EventSeal.TokenSigner do
  @moduledoc false
  # A key on a token that can be taken out: it is read for each signature. It remembers what it was asked to sign, and does
  # whatever else a test wants of it instead.
  @behaviour EventSeal.Signer

  alias EventSeal.Signer

  @doc "The signer of a key file, for an option `signer:`."
  def start!(path) do
    {:ok, asked} = ExUnit.Callbacks.start_supervised({Agent, fn -> {[], nil} end}, id: make_ref())
    {__MODULE__, {path, asked}}
  end

  @doc "What it was asked to sign, oldest first, since this was asked last."
  def asked({__MODULE__, {_path, asked}}),
    do: Agent.get_and_update(asked, fn {messages, instead} -> {Enum.reverse(messages), {[], instead}} end)

  @doc "Has it do this with every message, or sign again (nil)."
  def instead({__MODULE__, {_path, asked}}, fun), do: Agent.update(asked, fn {messages, _} -> {messages, fun} end)

  @impl true
  def open({path, _asked} = token) do
    with {:ok, _key, verifier} <- Signer.File.open(path), do: {:ok, token, verifier}
  end

  @impl true
  def sign({path, asked}, message) do
    instead = Agent.get_and_update(asked, fn {messages, instead} -> {instead, {[message | messages], instead}} end)

    if instead,
      do: instead.(message),
      else: with({:ok, key, _} <- Signer.File.open(path), do: Signer.File.sign(key, message))
  end
end
