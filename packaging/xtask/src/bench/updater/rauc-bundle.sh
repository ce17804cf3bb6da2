openssl req -x509 -newkey rsa:2048 -nodes -keyout key -out cert -subj /CN=bench -days 2
mkdir content
ln "$WEIGHTS" content/weights.img
printf '%s\n' '[update]' compatible=bench version=1 '[bundle]' format=$format '[image.weights]' filename=weights.img \
  >content/manifest.raucm
