// The JDK's HTTP client as tests/support/http_client_libraries.py describes it: java HttpClientProgram BASE [HTTP_1_1]
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.time.Duration;

public class HttpClientProgram {
	public static void main(String[] arguments) throws Exception {
		HttpClient.Builder builder = HttpClient.newBuilder();
		if (arguments.length > 1)
			builder.version(HttpClient.Version.valueOf(arguments[1]));
		HttpClient client = builder.build();
		BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
		for (String line = lines.readLine(); line != null; line = lines.readLine()) {
			String[] parts = line.split("\t", -1);
			HttpRequest.BodyPublisher body = parts[3].isEmpty()
				? HttpRequest.BodyPublishers.noBody() : HttpRequest.BodyPublishers.ofString(parts[3]);
			HttpRequest.Builder request = HttpRequest.newBuilder(URI.create(arguments[0] + parts[1]))
				.timeout(Duration.ofSeconds(10)).method(parts[0], body);
			if (!parts[2].isEmpty())
				request.header(parts[2].split(": ")[0], parts[2].split(": ")[1]);
			HttpResponse<String> answer = client.send(request.build(), HttpResponse.BodyHandlers.ofString());
			System.out.println(answer.statusCode() + "\t" + answer.headers().firstValue("x-server").orElse("None")
				+ "\t" + answer.body());
		}
	}
}
