defmodule EventSeal.Postgres.Socket do
  @moduledoc false
  # A byte stream to a server, plain or under TLS, and what of the server's certificate a login is bound to.

  import Kernel, except: [send: 2]
  alias EventSeal.Postgres.{Error, Message, Settings}

  @options [:binary, active: false, packet: :raw, nodelay: true, keepalive: true, buffer: 65_536]

  # What TLS says of a certificate that does not prove whom we speak to.
  @unproven [:unknown_ca, :bad_certificate, :certificate_expired, :certificate_unknown, :handshake_failure] ++
              [:unsupported_certificate, :certificate_revoked]

  @type t :: {:gen_tcp, :gen_tcp.socket()} | {:ssl, :ssl.sslsocket()}

  @doc "Connects, under TLS if the settings say so. `until` is a moment of the monotonic clock, in ms."
  @spec open(Settings.t(), integer) :: {:ok, t} | {:error, Error.t()}
  def open(settings, until) do
    with {:ok, socket} <- connect(settings, until) do
      case secure(settings.tls, settings.host, {:gen_tcp, socket}, until) do
        {:ok, _socket} = ok ->
          ok

        {:error, _} = error ->
          :gen_tcp.close(socket)
          error
      end
    end
  end

  # A server that reads nothing is given up, too.
  defp connect(%{host: host, port: port, timeout: timeout}, until) do
    options = [send_timeout: timeout, send_timeout_close: true] ++ options(host)

    case :gen_tcp.connect(address(host, port), port(host, port), options, left(until)) do
      {:ok, socket} -> {:ok, socket}
      {:error, reason} -> failed("connecting", reason)
    end
  end

  defp address("/" <> _ = folder, port), do: {:local, Path.join(folder, ".s.PGSQL.#{port}")}

  defp address(host, _port) do
    case ip(host) do
      {:ok, ip} -> ip
      {:error, _name} -> to_charlist(host)
    end
  end

  defp ip(host),
    do: host |> String.trim_leading("[") |> String.trim_trailing("]") |> to_charlist() |> :inet.parse_address()

  defp port("/" <> _, _port), do: 0
  defp port(_host, port), do: port

  defp options("/" <> _), do: [:local | @options -- [nodelay: true, keepalive: true]]

  defp options(host) do
    case ip(host) do
      {:ok, ip} when tuple_size(ip) == 8 -> [:inet6 | @options]
      _other -> @options
    end
  end

  defp secure(:disable, _host, socket, _until), do: {:ok, socket}

  # One byte and no more is read before the handshake: what stands behind it would have come from somebody else.
  defp secure({mode, files}, host, {:gen_tcp, tcp} = socket, until) do
    with :ok <- send(socket, Message.ssl_request()),
         {:ok, "S"} <- :gen_tcp.recv(tcp, 1, left(until)),
         {:ok, options} <- tls(mode, files, host),
         {:ok, ssl} <- :ssl.connect(tcp, options, left(until)) do
      {:ok, {:ssl, ssl}}
    else
      {:ok, "N"} -> {:error, Error.new("28000", "the server offers no TLS")}
      {:ok, _other} -> {:error, Error.new("08P01", "the server does not speak PostgreSQL's protocol")}
      {:error, %Error{}} = error -> error
      {:error, {:tls_alert, {alert, _text}}} when alert in @unproven -> unproven("TLS: #{alert}")
      {:error, reason} -> failed("TLS", reason)
    end
  end

  # It will not be another one the next time.
  defp unproven(text), do: {:error, Error.new("28000", text)}

  defp tls(mode, files, host) do
    with {:ok, trusted} <- trusted(mode, files["sslrootcert"]) do
      own = for {name, option} <- [{"sslcert", :certfile}, {"sslkey", :keyfile}], file = files[name], do: {option, file}
      {:ok, own ++ trusted ++ named(mode, host) ++ [versions: [:"tlsv1.3", :"tlsv1.2"], log_level: :none]}
    end
  end

  defp trusted("require", _file), do: {:ok, [verify: :verify_none]}

  defp trusted(_mode, nil) do
    {:ok, [verify: :verify_peer, cacerts: :public_key.cacerts_get()]}
  rescue
    _none in [ErlangError, MatchError, FunctionClauseError] ->
      unproven("this system has no root certificates; name some by sslrootcert")
  end

  defp trusted(_mode, file) do
    case File.read(file) do
      {:ok, pem} ->
        {:ok, [verify: :verify_peer, cacerts: for({:Certificate, der, _} <- :public_key.pem_decode(pem), do: der)]}

      {:error, reason} ->
        unproven("sslrootcert: #{reason}")
    end
  end

  # Without a name TLS compares the certificate with the address itself.
  defp named("verify-full", host) do
    check = [customize_hostname_check: [match_fun: :public_key.pkix_verify_hostname_match_fun(:https)]]
    if match?({:ok, _}, ip(host)), do: check, else: [server_name_indication: to_charlist(host)] ++ check
  end

  defp named(_mode, _host), do: [server_name_indication: :disable]

  @doc "The hash of the server's certificate (RFC 5929, tls-server-end-point); nil without TLS, or where none is defined."
  @spec end_point(t) :: binary | nil
  def end_point({:gen_tcp, _}), do: nil

  def end_point({:ssl, ssl}) do
    with {:ok, der} <- :ssl.peercert(ssl),
         hash when hash != nil <- signed_with(der),
         do: :crypto.hash(hash, der),
         else: (_ -> nil)
  end

  defp signed_with(der) do
    {:Certificate, _tbs, {:AlgorithmIdentifier, algorithm, _parameters}, _signature} =
      :public_key.pkix_decode_cert(der, :plain)

    case :public_key.pkix_sign_types(algorithm) do
      {hash, _key} when hash in [:md5, :sha] -> :sha256
      {hash, _key} when hash in [:sha224, :sha256, :sha384, :sha512] -> hash
      _undefined -> nil
    end
  rescue
    _unknown in [FunctionClauseError] -> nil
  end

  @spec send(t, iodata) :: :ok | {:error, term}
  def send({module, socket}, data), do: module.send(socket, data)

  @spec recv(t, integer) :: {:ok, binary} | {:error, Error.t()}
  def recv({module, socket}, until) do
    with {:error, reason} <- module.recv(socket, 0, left(until)), do: failed("reading", reason)
  end

  @doc "Lets the next bytes come as a message."
  @spec listen(t) :: :ok | {:error, term}
  def listen({:gen_tcp, socket}), do: :inet.setopts(socket, active: :once)
  def listen({:ssl, socket}), do: :ssl.setopts(socket, active: :once)

  @doc "What a message says of this socket: bytes, its end, or nothing."
  @spec read(t, term) :: {:data, binary} | {:closed, term} | :other
  def read({_, socket}, {tag, socket, data}) when tag in [:tcp, :ssl], do: {:data, data}
  def read({_, socket}, {tag, socket}) when tag in [:tcp_closed, :ssl_closed], do: {:closed, :closed}
  def read({_, socket}, {tag, socket, reason}) when tag in [:tcp_error, :ssl_error], do: {:closed, reason}
  def read(_socket, _message), do: :other

  @spec close(t) :: :ok
  def close({module, socket}) do
    module.close(socket)
    :ok
  end

  defp left(until), do: max(until - System.monotonic_time(:millisecond), 0)

  defp failed(doing, reason), do: {:error, Error.new("08001", "#{doing}: #{reason(reason)}")}

  @doc "A reason of the network's as text."
  @spec reason(term) :: String.t()
  def reason({:tls_alert, {alert, _text}}), do: "#{alert}"
  def reason(reason) when is_atom(reason), do: "#{reason}"
  def reason({:options, _}), do: "certificate or key cannot be read"
  def reason(_other), do: "failed"
end
